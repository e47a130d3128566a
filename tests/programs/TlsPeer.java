// A TLS server or client of the JDK, for the tests.

import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import javax.net.ssl.*;

public class TlsPeer {
    static final char[] PASSWORD = "changeit".toCharArray();

    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) {
            serve(args);
        } else {
            connect();
        }
    }

    /** serve PORT CERTIFICATE.p12 AUTHORITY.pem no|optional|required 1.2|1.3 on|off */
    static void serve(String[] args) throws Exception {
        if (args[6].equals("off")) {
            System.setProperty("jdk.tls.server.newSessionTicketCount", "0");
            System.setProperty("jdk.tls.server.enableSessionTicketExtension", "false");
        }
        SSLContext context = context(args[2], args[3]);
        SSLServerSocket listener = (SSLServerSocket) context.getServerSocketFactory()
            .createServerSocket(Integer.parseInt(args[1]), 50, InetAddress.getByName("127.0.0.1"));
        listener.setEnabledProtocols(new String[] {"TLSv" + args[5]});
        listener.setWantClientAuth(args[4].equals("optional"));
        if (args[4].equals("required")) {
            listener.setNeedClientAuth(true);
        }
        while (true) {
            Socket socket = listener.accept();
            new Thread(() -> {
                try (socket) {
                    BufferedReader reader = new BufferedReader(new InputStreamReader(socket.getInputStream()));
                    for (String line = reader.readLine(); line != null && !line.isEmpty(); line = reader.readLine()) {
                    }
                    String answer = "HTTP/1.0 200 OK\r\n\r\nclient certificates: " + seen((SSLSocket) socket) + "\n";
                    socket.getOutputStream().write(answer.getBytes());
                } catch (IOException refused) {
                    System.err.println(refused);
                }
            }).start();
        }
    }

    static int seen(SSLSocket socket) {
        try {
            return socket.getSession().getPeerCertificates().length;
        } catch (SSLPeerUnverifiedException none) {
            return 0;
        }
    }

    /** Lines on stdin: PORT 1.2|1.3 CERTIFICATE.p12 or "-". An answer each: ok and what the server said, or
     *  what failed. */
    static void connect() throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] fields = line.trim().split(" +");
            try {
                System.out.println("ok " + talk(fields).replaceAll("\\s+", " "));
            } catch (Exception refused) {
                System.out.println("failed: " + refused);
            }
        }
    }

    static String talk(String[] fields) throws Exception {
        SSLSocketFactory factory = context(fields[2], null).getSocketFactory();
        try (SSLSocket socket = (SSLSocket) factory.createSocket("127.0.0.1", Integer.parseInt(fields[0]))) {
            socket.setSoTimeout(20000);
            socket.setEnabledProtocols(new String[] {"TLSv" + fields[1]});
            socket.getOutputStream().write("GET / HTTP/1.0\r\n\r\n".getBytes());
            String answer = new String(socket.getInputStream().readAllBytes());
            if (answer.isEmpty()) {
                throw new IOException("no answer");
            }
            return answer;
        }
    }

    static SSLContext context(String certificate, String authority) throws Exception {
        KeyManager[] keys = null;
        if (!certificate.equals("-")) {
            KeyStore store = KeyStore.getInstance("PKCS12");
            try (InputStream in = Files.newInputStream(Path.of(certificate))) {
                store.load(in, PASSWORD);
            }
            KeyManagerFactory factory = KeyManagerFactory.getInstance("SunX509");
            factory.init(store, PASSWORD);
            keys = new KeyManager[] {new Stubborn((X509ExtendedKeyManager) factory.getKeyManagers()[0], store.aliases().nextElement())};
        }
        TrustManager[] trust = {new Anyone()};
        if (authority != null) {
            KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
            roots.load(null, null);
            try (InputStream in = Files.newInputStream(Path.of(authority))) {
                roots.setCertificateEntry("root", CertificateFactory.getInstance("X.509").generateCertificate(in));
            }
            TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            factory.init(roots);
            trust = factory.getTrustManagers();
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys, trust, null);
        return context;
    }

    /** Presents what it has, whoever is said to be trusted. */
    static class Stubborn extends X509ExtendedKeyManager {
        final X509ExtendedKeyManager keys;
        final String alias;

        Stubborn(X509ExtendedKeyManager keys, String alias) {
            this.keys = keys;
            this.alias = alias;
        }

        public String[] getClientAliases(String type, Principal[] issuers) {
            return new String[] {alias};
        }
        public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) {
            for (String type : types) {
                if (keys.getClientAliases(type, null) != null) {
                    return alias;
                }
            }
            return null;
        }
        public String[] getServerAliases(String type, Principal[] issuers) {
            return keys.getServerAliases(type, null);
        }
        public String chooseServerAlias(String type, Principal[] issuers, Socket socket) {
            return keys.chooseServerAlias(type, null, socket);
        }
        public X509Certificate[] getCertificateChain(String name) {
            return keys.getCertificateChain(name);
        }
        public PrivateKey getPrivateKey(String name) {
            return keys.getPrivateKey(name);
        }
    }

    /** The tests look at what is sent, not at whom it is sent to. */
    static class Anyone extends X509ExtendedTrustManager {
        public void checkClientTrusted(X509Certificate[] chain, String type) {}
        public void checkServerTrusted(X509Certificate[] chain, String type) {}
        public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) {}
        public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) {}
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
        public X509Certificate[] getAcceptedIssuers() {
            return new X509Certificate[0];
        }
    }
}
