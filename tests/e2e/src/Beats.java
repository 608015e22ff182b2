import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;

/** Threads that fill and check maps of their own for ever, so that the collector is busy, and a clock that must not go back. */
public class Beats {
    static final AtomicLong passes = new AtomicLong(), collected = new AtomicLong(), requests = new AtomicLong();

    static void die(String why) {
        System.out.println("BAD " + why);
        System.out.flush();
        Runtime.getRuntime().halt(1);
    }

    static String value(long thread, long key, long generation) {
        return thread + ":" + key * 2654435761L + ":" + generation;
    }

    static void work(long thread) {
        Map<Long, String> kept = new LinkedHashMap<>();
        long last = System.nanoTime();
        for (long generation = 0;; generation++) {
            for (long key = 0; key < 20000; key++) kept.put(key, value(thread, key, generation));
            for (long key = 0; key < 20000; key++)
                if (!value(thread, key, generation).equals(kept.get(key))) die("map of thread " + thread);
            long now = System.nanoTime();
            if (now < last) die("the clock went back by " + (last - now) + " ns");
            last = now;
            passes.incrementAndGet();
            collected.addAndGet(kept.size());
        }
    }

    public static void main(String[] arguments) throws Exception {
        for (long thread = 0; thread < 3; thread++) {
            long number = thread;
            new Thread(() -> work(number)).start();
        }
        if (arguments.length > 0) {
            HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(arguments[0])), 0);
            server.setExecutor(Executors.newFixedThreadPool(2));
            server.createContext("/", exchange -> {
                byte[] body = (requests.incrementAndGet() + " " + passes.get()).getBytes();
                exchange.sendResponseHeaders(200, body.length);
                exchange.getResponseBody().write(body);
                exchange.close();
            });
            server.start();
        }
        for (long line = 0;; line++) {
            Thread.sleep(200);
            System.out.println("passes " + passes.get());
            System.out.flush();
        }
    }
}
