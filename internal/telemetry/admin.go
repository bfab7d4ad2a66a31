package telemetry

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Admin is a server for operators: /metrics, for Prometheus, and Go's profiles in
// /debug/pprof/. Nobody needs credentials there.
type Admin struct {
	server   *http.Server
	listener net.Listener
	served   chan struct{} // closed when it has ended
}

// ServeAdmin serves operators on a listener, until it is closed. The Telemetry has to have
// metrics for Prometheus.
func (t *Telemetry) ServeAdmin(l net.Listener) *Admin {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", within(scrapeTimeout, promhttp.HandlerFor(t.scrape.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(t.log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		EnableOpenMetrics:   true,
	})))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!DOCTYPE html><title>sluice</title><a href="/metrics">metrics</a> <a href="/debug/pprof/">profiles</a>`)
	})
	a := &Admin{listener: l, served: make(chan struct{}), server: &http.Server{
		Handler:           notForPages(mux, isLoopback(l.Addr())),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(t.log.Handler(), slog.LevelDebug),
	}}
	go func() {
		defer close(a.served)
		if err := a.server.Serve(l); err != http.ErrServerClosed {
			t.log.Error("serve --admin", "cause", err)
		}
	}()
	return a
}

// Addr is where it listens.
func (a *Admin) Addr() net.Addr { return a.listener.Addr() }

// Close cuts what is asked for, and returns when nothing is served any more.
func (a *Admin) Close() {
	a.server.Close()
	<-a.served
}

// scrapeTimeout is how long a client of /metrics may take to read them: few are answered at
// the same time. Profiles take as long as they are asked to.
const scrapeTimeout = 30 * time.Second

// within gives a handler so long to write its answer.
func within(timeout time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout)) // net/http takes it back
		next.ServeHTTP(w, r)
	})
}

// notForPages keeps web pages of others away: one that has this machine's browser ask for
// profiles, and on loopback one whose name resolves to this machine, which could read
// them.
func notForPages(next http.Handler, loopback bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site := r.Header.Get("Sec-Fetch-Site")
		if site != "" && site != "same-origin" && site != "none" || loopback && !isLocalName(r.Host) {
			http.Error(w, "not for pages, nor by this name", http.StatusForbidden)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func isLocalName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	addr, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && addr.IsLoopback()
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
