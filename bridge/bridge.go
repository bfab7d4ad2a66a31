// Package bridge is the HTTP face: it says in JSON and server-sent events what
// the gRPC face says, and knows that only by a client connection.
//
// The routes are those of the generated grpc-gateway, but for those that stream: GET
// /v1/completions/{id}/events is ours on its mux, POST /v1/completions before it. Over
// HTTP/1.1 a stream takes the connection from net/http (http1) and has a goroutine
// of its own, as a completion in one piece does; over HTTP/2 it has the request's. In one process that runs the
// server's handler, which pushes events, and writes what has gathered (direct.go).
// Over any other connection it receives events, and writes them, too, unless they
// come so fast that they gather (receive.go). It ends with the stream's end, the
// client's departure, or the end of a drain.
//
// Caveats: a handler is not bounded by http.Server.WriteTimeout, which must stay
// zero: every write sets its own deadline. http.Server.Shutdown does not wait for
// the streams that have taken their connections: Wait does. A stream over HTTP/2
// that cannot go on is cut by panicking with http.ErrAbortHandler, so a handler
// around this one must let that through.
package bridge

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-sse/sluice/bridge/http1"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Config says how a Bridge behaves. A zero field takes its default.
type Config struct {
	CommitWindow time.Duration // how long to hold the status line back for the first event; default 5 s
	Heartbeat    time.Duration // how much silence a comment breaks; default 15 s
	WriteTimeout time.Duration // how long a client may take nothing before it is let go; default 30 s
	MaxBody      int64         // the largest request body in bytes; default 4 MiB
	CORSOrigins  []string      // the other origins whose pages may call, as "https://example.com"; "*": all; default: none
	Hosts        []string      // the names that a request may have as Host, besides localhost, loopback addresses and the one that it came to; none or "*": any
	Log          *slog.Logger  // what goes wrong between the bridge and its server; default: none

	// Room waits until there is room to decode a body of so many bytes, or the context
	// is done; leave is called when it is decoded. Default: there always is.
	Room func(ctx context.Context, bytes int) (leave func(), err error)
}

// Bridge is an http.Handler. It is for many goroutines at once.
type Bridge struct {
	config   Config
	conn     grpc.ClientConnInterface
	client   completionv1.CompletionServiceClient
	health   healthpb.HealthClient
	mux      *runtime.ServeMux
	handler  http.Handler // the mux, with what is around it
	hosts    hosts
	draining atomic.Bool
	start    time.Time // from which responses count
	conns    *http1.Conns
}

// New returns a bridge to the server behind a connection, which stays the
// caller's. It returns an error for an origin or a host that is none. Close it after
// use.
func New(conn grpc.ClientConnInterface, config Config) (*Bridge, error) {
	def(&config.CommitWindow, 5*time.Second)
	def(&config.Heartbeat, 15*time.Second)
	def(&config.WriteTimeout, 30*time.Second)
	def(&config.MaxBody, 4<<20)
	if config.Room == nil {
		config.Room = func(context.Context, int) (func(), error) { return func() {}, nil }
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	b := &Bridge{
		start:  time.Now(),
		config: config,
		conn:   conn,
		client: completionv1.NewCompletionServiceClient(conn),
		health: healthpb.NewHealthClient(conn),
	}
	b.conns = http1.New(http1.Config{WriteTimeout: config.WriteTimeout, Log: config.Log})
	b.mux = b.newMux()
	var err error
	if b.hosts, err = newHosts(config.Hosts); err != nil {
		return nil, err
	}
	if b.handler, err = b.guard(http.HandlerFunc(b.route)); err != nil {
		return nil, err
	}
	return b, nil
}

// def gives a field that is zero its default.
func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ServeHTTP implements http.Handler.
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(requestIDHeader)
	if !safeRequestID.MatchString(id) {
		id = rand.Text()
		r.Header.Set(requestIDHeader, id)
	}
	w.Header().Set(requestIDHeader, id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	r.Header.Del("Grpc-Timeout") // to the gateway a deadline, which would cut streams
	if r.ProtoMajor == 1 {       // over HTTP/2, it would reset a response that is still waited for
		b.setWriteDeadline(w) // for what sets none, such as the answer to a preflight
	}
	answer := b.boundBody(w, r)
	if err := b.hosts.check(r); err != nil { // before CORS, which may answer by itself
		b.writeError(w, err)
	} else {
		b.handler.ServeHTTP(w, r)
	}
	answer()
}

// route is the mux, but for the request that most are. On the mux, that would be
// decoded so deep in the goroutine's stack that this has to be moved to a larger one,
// which takes longer than the routing.
func (b *Bridge) route(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost && r.Body != nil { // a body means nothing then
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			b.writeError(w, unread(w, r, err))
			return
		}
	}
	if r.Method == http.MethodPost && r.URL.Path == completionsPath {
		b.complete(w, r, nil)
		return
	}
	if !utf8.ValidString(r.URL.Path) { // an id that no message can hold
		b.writeError(w, routingError(w, r, http.StatusNotFound))
		return
	}
	b.mux.ServeHTTP(w, asGet(r))
}

const requestIDHeader = "X-Request-Id"

// safeRequestID is what a caller may name its request: it goes into headers,
// metadata and logs.
var safeRequestID = regexp.MustCompile(`^[A-Za-z0-9._:/+=@-]{1,128}$`)

// Drain tells that the bridge is about to stop: /readyz answers 503 from now on, new
// completions are refused with DRAINING, unless they have a key, which the server may
// know, and each stream's next event asks its client to come back a little later, not
// all at once. The streams go on, and can be resumed.
func (b *Bridge) Drain() { b.draining.Store(true) }

// Configure has an http.Server tell the bridge of its connections. It is called before
// the server serves; without it a shutdown may take five seconds.
func (b *Bridge) Configure(s *http.Server) { b.conns.Configure(s) }

// Listener returns a listener for an http.Server that serves the bridge, through
// which connections go back to the server after a stream. Without it, a connection
// is closed after a stream over HTTP/1.1. It is called once.
func (b *Bridge) Listener(l net.Listener) net.Listener { return b.conns.Listener(l) }

// Wait waits for the end of the streams that http.Server.Shutdown does not know of,
// since they have taken their connections from it.
func (b *Bridge) Wait() { b.conns.Wait() }

// Close cuts those streams, and closes their connections.
func (b *Bridge) Close() { b.conns.Close() }

const firstRetry = time.Second // what clients wait for before they come back

// drainRetry is what clients wait for when all of them have to come back.
func drainRetry() time.Duration { return firstRetry + mathrand.N(2*time.Second) }

// setWriteDeadline bounds the next write by the write timeout.
func (b *Bridge) setWriteDeadline(w http.ResponseWriter) {
	// Not every ResponseWriter of a test can; a connection's can.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(b.config.WriteTimeout))
}

// ready says whether the bridge and its server take requests.
func (b *Bridge) ready(ctx context.Context) bool {
	if b.draining.Load() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := b.health.Check(ctx, &healthpb.HealthCheckRequest{})
	return err == nil && resp.GetStatus() == healthpb.HealthCheckResponse_SERVING
}
