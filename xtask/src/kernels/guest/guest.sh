#!/bin/busybox sh
# The first process of the machines that `cargo xtask kernels` boots. Makes the place ready, then does
# what the kernel's command line names: `scenario=` traffic, clocks or power, a script each. They write
# what they saw to the second serial line, in sections that begin with "== NAME". They judge nothing:
# the other side does.

/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
# busybox takes its own applets first: what has to be another program is called by its path.
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf none /sys/fs/bpf
hostname streamwatch
stty raw -echo < /dev/ttyS1
exec 3> /dev/ttyS1
# In the order of their dependencies.
for module in inet_diag tcp_diag udp_diag veth \
    virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
    # One that is built in is no file.
    [ ! -e /modules/$module.ko ] || insmod /modules/$module.ko || echo "no module $module"
done
/bin/ip link set lo up

yes 'this goes over the wire in the clear' | head -c 123457 > /tmp/question
yes 'and this is the answer to it, in the clear' | head -c 1234567 > /tmp/answer
head -c 500 /tmp/question > /tmp/datagrams
size() { stat -c %s "$1"; }
# Waits until something listens on a TCP port (state 0A) or has a UDP port (state 07), here.
up() {
    tries=0
    until grep -qi ":$(printf %04X $1) [0-9A-F]*:0000 0[A7]" /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 ||
        [ $tries -ge 50 ]; do
        sleep 0.2
        tries=$((tries + 1))
    done
}
# The daemon, until it can be asked, and has found what was there before.
start() {
    streamwatch run --output ecs "$@" > /tmp/records 2> /tmp/daemon.err &
    daemon=$!
    waited=0
    until [ -S /run/streamwatch/api.sock ] || [ $waited -ge 60 ] || ! kill -0 $daemon 2> /dev/null; do
        sleep 1
        waited=$((waited + 1))
    done
    # The socket comes with the hooks; what was there before is found a moment later.
    sleep 1
}
# key PORT: of the alert about what is in the clear there, once it is told.
key() {
    tries=0
    until grep -o "\"key\":\"plaintext|[^\"]*:$1/tcp\"" /tmp/records > /tmp/key.$1 || [ $tries -ge 100 ]; do
        sleep 0.2
        tries=$((tries + 1))
    done
    head -n 1 /tmp/key.$1 | cut -d '"' -f 4
}

echo "== release" >&3
uname -r >&3
. /$scenario.sh
echo "== complaints" >&3
dmesg | grep -E 'BUG:|WARNING:|Oops|Call Trace|general protection' >&3
echo "== end" >&3
# The line is drained before the power goes.
sleep 1
poweroff -f
