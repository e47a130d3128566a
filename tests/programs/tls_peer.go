// A TLS server or client of Go's standard library, for the tests.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2:])
	case "connect":
		err = connect()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// PORT CERTIFICATE KEY AUTHORITY no|optional|required 1.2|1.3 on|off
func serve(args []string) error {
	certificate, err := tls.LoadX509KeyPair(args[1], args[2])
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: args[6] == "off"}
	limit(config, args[5])
	if args[4] != "no" {
		authority, err := os.ReadFile(args[3])
		if err != nil {
			return err
		}
		config.ClientCAs = x509.NewCertPool()
		config.ClientCAs.AppendCertsFromPEM(authority)
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if args[4] == "required" {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	if err != nil {
		return err
	}
	for {
		raw, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			connection := tls.Server(raw, config)
			defer connection.Close()
			reader := bufio.NewReader(connection)
			for {
				line, err := reader.ReadString('\n')
				if err != nil {
					return
				}
				if strings.TrimSpace(line) == "" {
					break
				}
			}
			seen := len(connection.ConnectionState().PeerCertificates)
			fmt.Fprintf(connection, "HTTP/1.0 200 OK\r\n\r\nclient certificates: %d\n", seen)
		}()
	}
}

// Lines on stdin: PORT 1.2|1.3 CERTIFICATE KEY, the last two "-" for none; a fifth word: resume where a
// session is there. An answer each: ok and what the server said, or what failed.
func connect() error {
	lines := bufio.NewScanner(os.Stdin)
	sessions := tls.NewLRUClientSessionCache(16)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		config := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}
		limit(config, fields[1])
		if len(fields) > 4 {
			config.ClientSessionCache = sessions
		}
		if fields[2] != "-" {
			certificate, err := tls.LoadX509KeyPair(fields[2], fields[3])
			if err != nil {
				return err
			}
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &certificate, nil
			}
		}
		if answer, err := talk(fields[0], config); err != nil {
			fmt.Println("failed:", err)
		} else {
			fmt.Printf("ok %q\n", answer)
		}
	}
	return lines.Err()
}

func limit(config *tls.Config, version string) {
	config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if version == "1.3" {
		config.MinVersion, config.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	}
}

func talk(port string, config *tls.Config) (string, error) {
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", "127.0.0.1:"+port, config)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(connection, "GET / HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(connection)
	if err == nil && len(answer) == 0 {
		return "", fmt.Errorf("no answer")
	}
	return string(answer), err
}
