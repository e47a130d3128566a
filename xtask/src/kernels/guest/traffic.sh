# Loads the programs, starts the daemon, and makes traffic with real programs.
#
# A line of "== traffic" says what the programs at both ends sent and received, by their own account:
#   name=… port=… transport=… type=… client=… server=… sent=… received=… [encrypted=…] …

echo "== survey" >&3
kernel_survey /streamwatch.bpf.o >&3 2> /tmp/survey.err || cat /tmp/survey.err
echo "== doctor" >&3
streamwatch doctor --json >&3

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
    -subj /CN=guest -keyout /tmp/key.pem -out /tmp/certificate.pem 2> /dev/null

# A connection from before the daemon, which sends again after it has started.
socat -u TCP4-LISTEN:7009 OPEN:/tmp/early,creat &
up 7009
mkfifo /tmp/early.pipe
socat -u OPEN:/tmp/early.pipe TCP4:127.0.0.1:7009 &
exec 4> /tmp/early.pipe
cat /tmp/datagrams >&4
sleep 1

start

echo "== traffic" >&3

# exchange NAME TYPE PORT LISTEN CONNECT: a question of known size, an answer of known size. CLIENT
# and SERVER, if set, are commands that run an end elsewhere.
exchange() {
    socket=/tmp/exchange.$3
    $SERVER socat "$4" "SYSTEM:cat > $socket.got; cat /tmp/answer" &
    if [ -n "$SERVER" ]; then sleep 2; else up $3; fi
    $CLIENT socat -t 20 - "$5" < /tmp/question > $socket.came
    wait $!
    echo "name=$1 port=$3 transport=tcp type=$2 client=socat server=socat" \
        "sent=$(size $socket.got) received=$(size $socket.came) encrypted=no $6" >&3
}
exchange tcp-ipv4 ipv4 7001 TCP4-LISTEN:7001 TCP4:127.0.0.1:7001
exchange tcp-ipv6 ipv6 7002 TCP6-LISTEN:7002 'TCP6:[::1]:7002'
# An IPv4 connection to a socket of both families: v4-mapped addresses.
exchange tcp-mapped ipv4 7003 TCP6-LISTEN:7003,ipv6only=0 TCP4:127.0.0.1:7003

# A web server and two clients, one of which says how much came.
mkdir /tmp/www
cp /tmp/answer /tmp/www/page
httpd -f -p 8080 -h /tmp/www &
up 8080
printf 'GET /page HTTP/1.0\r\nHost: here\r\n\r\n' > /tmp/get
socat -t 20 - TCP4:127.0.0.1:8080 < /tmp/get > /tmp/got
echo "name=http-ipv4 port=8080 transport=tcp type=ipv4 client=socat server=httpd" \
    "sent=$(size /tmp/get) received=$(size /tmp/got) encrypted=no protocol=http" >&3
wget -q -O /tmp/got 'http://[::1]:8080/page'
echo "name=http-ipv6 port=8080 transport=tcp type=ipv6 client=wget server=httpd" \
    "encrypted=no protocol=http" >&3

# tls NAME TYPE PORT FLAG ADDRESS VERSION OPTION
tls() {
    openssl s_server $4 -accept $3 -cert /tmp/certificate.pem -key /tmp/key.pem $7 -rev -naccept 1 \
        > /dev/null 2>&1 &
    up $3
    { echo 'is this private?'; sleep 2; } |
        openssl s_client -connect "$5" -servername guest.example > /dev/null 2>&1
    wait $!
    echo "name=$1 port=$3 transport=tcp type=$2 client=openssl server=openssl" \
        "encrypted=yes protocol=tls version=$6" >&3
}
tls tls13-ipv4 ipv4 4433 -4 127.0.0.1:4433 1.3
tls tls13-ipv6 ipv6 4434 -6 '[::1]:4434' 1.3
tls tls12-ipv4 ipv4 4435 -4 127.0.0.1:4435 1.2 -tls1_2

# Five datagrams of 100 bytes one way; one of 500 there and back.
socat -u UDP4-RECV:5301 OPEN:/tmp/datagrams.got,creat &
receiver=$!
up 5301
socat -u -b 100 OPEN:/tmp/datagrams UDP4:127.0.0.1:5301
sleep 1
kill $receiver
wait $receiver
echo "name=udp-ipv4 port=5301 transport=udp type=ipv4 client=socat server=socat" \
    "sent=$(size /tmp/datagrams.got) received=0 encrypted=no" >&3
socat UDP6-LISTEN:5302 PIPE &
receiver=$!
up 5302
socat -t 2 - 'UDP6:[::1]:5302' < /tmp/datagrams > /tmp/echoed
kill $receiver
wait $receiver
echo "name=udp-ipv6 port=5302 transport=udp type=ipv6 client=socat server=socat" \
    "sent=500 received=$(size /tmp/echoed) encrypted=no" >&3

# Another network namespace, and in it a process in a container's cgroup.
container=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
if /bin/ip netns add container && /bin/ip link add outside type veth peer name inside netns container; then
    /bin/ip address add 10.9.0.1/24 dev outside
    /bin/ip address add fd00:9::1/64 dev outside nodad
    /bin/ip link set outside up
    /bin/ip netns exec container /bin/ip address add 10.9.0.2/24 dev inside
    /bin/ip netns exec container /bin/ip address add fd00:9::2/64 dev inside nodad
    /bin/ip netns exec container /bin/ip link set inside up
    mkdir -p /sys/fs/cgroup/docker/$container
    printf '#!/bin/sh\necho $$ > /sys/fs/cgroup/docker/%s/cgroup.procs\nexec /bin/ip netns exec container "$@"\n' \
        $container > /tmp/in-container
    chmod +x /tmp/in-container
    sleep 1
    SERVER=/tmp/in-container
    exchange veth-ipv4 ipv4 7011 TCP4-LISTEN:7011 TCP4:10.9.0.2:7011 server_container=$container
    exchange veth-ipv6 ipv6 7012 TCP6-LISTEN:7012 'TCP6:[fd00:9::2]:7012' server_container=$container
    SERVER= CLIENT=/tmp/in-container
    exchange veth-out ipv4 7013 TCP4-LISTEN:7013 TCP4:10.9.0.1:7013 client_container=$container
    CLIENT=
fi

# Nobody listens.
socat - TCP4:127.0.0.1:7099 < /dev/null 2> /dev/null
echo "name=refused port=7099 transport=tcp type=ipv4 client=socat state=failed" >&3

# The connection from before goes on, and ends.
cat /tmp/datagrams >&4
exec 4>&-
sleep 2
echo "name=existing port=7009 transport=tcp type=ipv4 client=socat server=socat existing=yes sent=1000" >&3

echo "== status" >&3
streamwatch status --json >&3
# Not SIGTERM, at which the hooks would stay and open flows go on.
kill -INT $daemon
wait $daemon
ended=$?
echo "== records" >&3
grep -E '"action":"(flow_closed|connection_failed)"|"streamwatch.loss"' /tmp/records >&3
echo "== daemon" >&3
echo "exit=$ended ready_after=$waited" >&3
cat /tmp/daemon.err >&3
