import java.io.FileInputStream;
import java.net.InetAddress;
import java.security.KeyStore;
import java.security.SecureRandom;
import java.security.Security;
import java.security.cert.X509Certificate;
import javax.net.ssl.*;

/**
 * Both ends of TLS as nobody should use it any more, for the tests: the JDK has all of it, and only its settings
 * turn it off.
 *
 * Usage: OldPeer server|client ADDRESS FIRST-PORT ARCHIVE PROTOCOL[+PROTOCOL]:SUITE..., the ports one after the
 * other; the password of the archive is "password". A client prints a line each: port, protocol, suite.
 */
public class OldPeer {
    public static void main(String[] arguments) throws Exception {
        Security.setProperty("jdk.tls.disabledAlgorithms", "");
        Security.setProperty("jdk.tls.legacyAlgorithms", "");
        Security.setProperty("jdk.certpath.disabledAlgorithms", "");
        InetAddress address = InetAddress.getByName(arguments[1]);
        int port = Integer.parseInt(arguments[2]);
        SSLContext context = context(arguments[3]);
        for (int at = 4; at < arguments.length; at++, port++) {
            String[] parts = arguments[at].split(":");
            String[] protocols = parts[0].split("\\+");
            String[] suites = {parts[1]};
            if (arguments[0].equals("server")) {
                SSLServerSocket listener =
                        (SSLServerSocket) context.getServerSocketFactory().createServerSocket(port, 16, address);
                listener.setEnabledProtocols(protocols);
                listener.setEnabledCipherSuites(suites);
                new Thread(() -> serve(listener)).start();
            } else {
                visit((SSLSocket) context.getSocketFactory().createSocket(address, port), protocols, suites);
            }
        }
    }

    /** Sends each line back. */
    private static void serve(SSLServerSocket listener) {
        while (true) {
            try (SSLSocket socket = (SSLSocket) listener.accept()) {
                byte[] line = new byte[64];
                int length;
                while ((length = socket.getInputStream().read(line)) > 0) {
                    socket.getOutputStream().write(line, 0, length);
                }
            } catch (Exception error) {
                System.err.println(listener.getLocalPort() + ": " + error);
            }
        }
    }

    private static void visit(SSLSocket socket, String[] protocols, String[] suites) throws Exception {
        socket.setSoTimeout(30_000);
        socket.setEnabledProtocols(protocols);
        socket.setEnabledCipherSuites(suites);
        socket.startHandshake();
        byte[] line = "hello\n".getBytes();
        for (int round = 0; round < 2; round++) {
            socket.getOutputStream().write(line);
            if (socket.getInputStream().readNBytes(line.length).length != line.length) {
                throw new IllegalStateException("no answer from port " + socket.getPort());
            }
        }
        SSLSession session = socket.getSession();
        System.out.println(socket.getPort() + " " + session.getProtocol() + " " + session.getCipherSuite());
        socket.close();
    }

    private static SSLContext context(String archive) throws Exception {
        char[] password = "password".toCharArray();
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (FileInputStream file = new FileInputStream(archive)) {
            store.load(file, password);
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance("SunX509");
        keys.init(store, password);
        TrustManager anyone = new X509ExtendedTrustManager() {
            public void checkClientTrusted(X509Certificate[] chain, String how) {}
            public void checkServerTrusted(X509Certificate[] chain, String how) {}
            public void checkClientTrusted(X509Certificate[] chain, String how, java.net.Socket socket) {}
            public void checkServerTrusted(X509Certificate[] chain, String how, java.net.Socket socket) {}
            public void checkClientTrusted(X509Certificate[] chain, String how, SSLEngine engine) {}
            public void checkServerTrusted(X509Certificate[] chain, String how, SSLEngine engine) {}
            public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
        };
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), new TrustManager[] {anyone}, new SecureRandom());
        return context;
    }
}
