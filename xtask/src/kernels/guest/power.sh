# The state is on a disk. What is said of alerts is told with the answer, until the power goes: `boot=` says which
# boot this is, `last=yes` that there is no other, and the daemon ends in order.
#
# "== before" begins what the daemon has of earlier boots. Behind "== answers" is a line for each answer:
#   status=200 of=20101 number=7 (the seventh acknowledgement of the alert about that port), or of=silence number=20101

state=/var/lib/streamwatch
mkdir -p $state
# Its magic number. By its path: busybox's own makes no journal.
if [ "$(dd if=/dev/vda bs=1 skip=1080 count=2 2> /dev/null | od -An -tx1)" != " 53 ef" ]; then
    /sbin/mke2fs -q -t ext4 /dev/vda
fi
mount -t ext4 /dev/vda $state
echo "== disk" >&3
grep $state /proc/mounts >&3

# Nothing is resolved between two boots.
printf '[alerts]\nloopback = true\nresolve_after_s = 360000\n' > /tmp/config.toml
start --config /tmp/config.toml
# ask METHOD PATH: the answer, with its head. Says nothing where there is none.
ask() {
    printf '%s %s HTTP/1.0\r\n\r\n' "$1" "$2" | socat -t 60 - UNIX-CONNECT:/run/streamwatch/api.sock,shut-none
}
echo "== before" >&3
for what in status alerts silences; do
    ask GET /v1/$what | sed '1,/^\r$/d' >&3
done
cat /tmp/daemon.err >&3

# Each is known by its port, so that each of each boot is another one.
first=$((20000 + boot * 100))
talk() {
    socat TCP4-LISTEN:$1 PIPE &
    up $1
    socat -t 20 - TCP4:127.0.0.1:$1 < /tmp/datagrams > /dev/null
}
encoded() { printf %s "$1" | od -An -v -tx1 | tr -d '\n' | tr ' ' %; }
# say OF NUMBER PATH
say() {
    status=$(ask POST "$3" | head -n 1 | cut -d ' ' -f 2)
    echo "status=$status of=$1 number=$2" >&3
}
# acknowledge PORT: again and again, for another reason each time.
acknowledge() {
    key=$(encoded "$(key $1)")
    number=0
    while true; do
        number=$((number + 1))
        say $1 $number "/v1/alerts/ack?key=$key&for=30d&why=$number"
    done
}
silence() {
    number=$first
    while [ $number -lt $((first + 50)) ]; do
        number=$((number + 1))
        say silence $number "/v1/silences?filter=server.port%3D%3D$number&for=30d&why=$number"
        sleep 1
    done
}
mkdir -p /tmp/www
cp /tmp/question /tmp/www/page
httpd -p 8080 -h /tmp/www
requests() {
    while wget -q -O /dev/null http://127.0.0.1:8080/page; do :; done
}

echo "== answers" >&3
if [ "$last" != yes ]; then
    for port in $((first + 1)) $((first + 2)) $((first + 3)); do
        talk $port
        acknowledge $port &
    done
    silence &
    requests &
    # The power goes first.
    sleep 600
fi
kill -INT $daemon
wait $daemon
echo "== daemon" >&3
echo "exit=$? ready_after=$waited" >&3
cat /tmp/daemon.err >&3
umount $state
