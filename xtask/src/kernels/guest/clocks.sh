# The wall clock is set, forth and back, and the host sleeps, while flows go on, begin and end.
#
# A line of "== steps" says what was done, and by how much each clock went on meanwhile: name=… wall=… boot=…
# (both in seconds) monotonic=… (ns). A line of "== traffic" says what the programs at both ends of a connection
# did, as in traffic.sh, and when, CLOCK_MONOTONIC ns: opened=… (before), talked=… (by then it was there),
# closing=… (it still was), closed=… (by then it was not). What the daemon told when it was asked is between
# "== look" and "== looked", each with monotonic=… and wall=…. `sleeps=no` says that the host does not sleep.

# CLOCK_MONOTONIC, ns.
monotonic() { sed -n 's/^now at \([0-9]*\) nsecs$/\1/p' /proc/timer_list; }
# Whole seconds since the boot, asleep or awake.
boot() { cut -d . -f 1 /proc/uptime; }

# hold PORT DESCRIPTOR: a connection to what sends everything back, until it is let go.
hold() {
    mkfifo /tmp/in.$1
    socat TCP4-LISTEN:$1 PIPE &
    eval server_$1=$!
    up $1
    eval opened_$1=$(monotonic)
    socat -t 20 - TCP4:127.0.0.1:$1 < /tmp/in.$1 > /tmp/out.$1 &
    eval "client_$1=$! asked_$1=0; exec $2> /tmp/in.$1"
    say $1 $2
    eval talked_$1=$(monotonic)
}
# say PORT DESCRIPTOR: 500 bytes there, and back.
say() {
    cat /tmp/datagrams >&$2
    eval "asked_$1=\$((asked_$1 + 500)) asked=\$asked_$1"
    tries=0
    until [ $(size /tmp/out.$1) -ge $asked ] || [ $tries -ge 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
}
# let_go PORT DESCRIPTOR
let_go() {
    closing=$(monotonic)
    eval "exec $2>&-"
    eval "wait \$client_$1 \$server_$1; asked=\$asked_$1 times=\"opened=\$opened_$1 talked=\$talked_$1\""
    echo "name=tcp-$1 port=$1 transport=tcp type=ipv4 client=socat server=socat encrypted=no" \
        "sent=$asked received=$(size /tmp/out.$1) $times closing=$closing closed=$(monotonic)" > /tmp/told
    echo "== traffic" >&3
    cat /tmp/told >&3
}
# look WHAT…
look() {
    echo "== look" >&3
    echo "monotonic=$(monotonic) wall=$(date +%s)" >&3
    for what in "$@"; do
        # One that is busy says so, and is asked again.
        tries=0
        until streamwatch $what --json > /tmp/look || [ $tries -ge 5 ]; do
            tries=$((tries + 1))
        done
        echo "== $what" >&3
        cat /tmp/look >&3
    done
    echo "== looked" >&3
    echo "monotonic=$(monotonic) wall=$(date +%s)" >&3
}
# across NAME COMMAND…: what is done while one connection goes on, one ends behind it, and one begins.
across() {
    port=$((port + 1))
    name=$1
    shift
    hold $port 5
    monotonic=$(monotonic) wall=$(date +%s) boot=$(boot)
    "$@"
    echo "== steps" >&3
    echo "name=$name port=$port wall=$(($(date +%s) - wall)) boot=$(($(boot) - boot))" \
        "monotonic=$(($(monotonic) - monotonic))" >&3
    say 7100 4
    say $port 5
    let_go $port 5
    port=$((port + 1))
    hold $port 5
    let_go $port 5
}
# set_clock SECONDS: by so many.
set_clock() { date -s "@$(($(date +%s) + $1))" > /dev/null; }
# To memory; the clock of the board wakes it, but not one that does not sleep yet when it rings. Nothing behind
# "== sleep": it did not wake.
sleep_a_while() {
    echo "== sleep" >&3
    # The line is drained before the machine sleeps.
    sleep 1
    echo 0 > /sys/class/rtc/rtc0/wakealarm
    echo +20 > /sys/class/rtc/rtc0/wakealarm
    echo mem > /sys/power/state
}

# Nobody repeats or resolves an alert within the run, but whoever takes a day of the wall clock for one.
cat > /tmp/config.toml << EOF
[alerts]
loopback = true
repeat_every_s = 36000
resolve_after_s = 36000
hooks = [{ command = ["/bin/sh", "-c", "cat >> /tmp/posted"] }]
EOF
start --config /tmp/config.toml
port=7100
hold 7100 4
streamwatch alerts ack "$(key 7100)" --for 30d --why 'held on purpose'
look status flows alerts
day=86400
across set set_clock $day
look status flows alerts
across set set_clock -$((2 * day))
look status flows streams alerts hist
across set set_clock $((2 * day))
across set set_clock -$((2 * day))
if [ "$sleeps" != no ] && grep -q mem /sys/power/state && [ -e /sys/class/rtc/rtc0/wakealarm ]; then
    across asleep sleep_a_while
    look status flows
fi
across set set_clock $day
let_go 7100 4
look status flows streams alerts hist

kill -INT $daemon
wait $daemon
ended=$?
echo "== records" >&3
cat /tmp/records >&3
echo "== posted" >&3
cat /tmp/posted >&3
echo "== daemon" >&3
echo "exit=$ended ready_after=$waited" >&3
cat /tmp/daemon.err >&3
