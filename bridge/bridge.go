// Package bridge is the HTTP face: it says in JSON and server-sent events what
// the gRPC face says, and knows that only by a client connection.
//
// A request goes through Bridge.ServeHTTP, which guards, and the router, to a handler.
// Most handlers are those of the generated grpc-gateway; those of completions that the
// gateway would not do for, and that stream, are in completions.go. streams.serve opens a
// stream on the server, whose messages a response writes as an Encoder has them: events
// in their native form are one face, package native; those of OpenAI's API are another,
// package openai, whose handlers are in openai.go.
//
// Over HTTP/1.1 a stream takes the connection from net/http (package http1) and has a
// goroutine of its own, as a completion in one piece does; over HTTP/2 it has the
// request's. In one process that runs the server's handler, and writes what this sends;
// over any other connection it receives messages, and writes them, too, unless they
// come so fast that they have to be buffered (receive.go). It ends with the stream's end,
// the client's departure, or the end of a drain.
//
// Caveats: a handler is not bounded by http.Server.WriteTimeout, which must stay
// zero: every write sets its own deadline. http.Server.Shutdown does not wait for
// the streams that have taken their connections: Wait does. A stream over HTTP/2
// that cannot go on is cut by panicking with http.ErrAbortHandler, so a handler
// around this one must let that through.
package bridge

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-sse/sluice/bridge/http1"
	"github.com/sluice-sse/sluice/bridge/jsonbody"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Config says how a Bridge behaves. A zero field takes its default.
type Config struct {
	CommitWindow time.Duration // how long to hold the status line back for the first event; default 5 s
	Heartbeat    time.Duration // how much silence a comment breaks; default 15 s
	WriteTimeout time.Duration // how long a client may take nothing before it is let go; default 30 s
	MaxBody      int64         // the largest request body in bytes; default 4 MiB
	BodyMemory   int64         // what all bodies together may take that are on their way, beyond 64 KiB each; default 256 MiB, and at least twice MaxBody

	// What the texts of responses of OpenAI's API may take that are being read, beyond 64 KiB of
	// each, and of each reader; default 256 MiB.
	ResponseMemory int64

	CORSOrigins  []string      // the other origins whose pages may call, as "https://example.com"; "*": all; default: none
	Hosts        []string      // the names that a request may have as Host, besides localhost, loopback addresses and the one that it came to; none or "*": any
	DedupeWindow time.Duration // for how long a request is known again that a client of OpenAI's repeats by itself; zero: not at all

	// Of the server's methods, whatever they are: see package transcode.
	Expose         []string // which are served, too: my.pkg.Service, my.pkg.Service/Method, or * for all; default: none
	Descriptors    string   // a file with their descriptors; default: the server's reflection has them
	ForwardHeaders []string // the headers of requests that go to them as metadata, beside those that always do

	Log *slog.Logger // what goes wrong between the bridge and its server; default: none

	// DecodeLimit waits until a body of so many bytes may be decoded, or the context is
	// done; release is called when it is decoded. Default: it always may.
	DecodeLimit func(ctx context.Context, bytes int) (release func(), err error)

	// Observe is called with each request before it is looked at, and may add to its
	// header. What it returns is called when the response has ended. Default: nobody
	// observes.
	Observe func(r *http.Request) (done func(Answer))
}

// Bridge is an http.Handler. It is for many goroutines at once.
type Bridge struct {
	log          *slog.Logger
	hosts        hosts
	maxBody      int64
	bodies       bodyMemory
	writeTimeout time.Duration
	conns        *http1.Conns
	handler      http.Handler // the router, behind the guard of origins
	exposed      *exposed     // nil: nothing is
	health       healthpb.HealthClient
	draining     atomic.Bool                      // no new completions are taken
	observe      func(*http.Request) func(Answer) // nil: nobody does
	closing      atomic.Bool                      // those that stream are soon to end: the bridge drains, or its server
}

// New returns a bridge to the server behind a connection, which stays the
// caller's. It returns an error for an origin or a host that is none. Close it after
// use.
func New(conn grpc.ClientConnInterface, config Config) (*Bridge, error) {
	b := &Bridge{
		log:          cmp.Or(config.Log, slog.New(slog.DiscardHandler)),
		maxBody:      cmp.Or(config.MaxBody, 4<<20),
		writeTimeout: cmp.Or(config.WriteTimeout, 30*time.Second),
		observe:      config.Observe,
	}
	b.bodies.most = max(cmp.Or(config.BodyMemory, 256<<20), 2*b.maxBody)
	b.conns = http1.New(http1.Config{WriteTimeout: b.writeTimeout, Log: b.log})
	if config.DecodeLimit == nil {
		config.DecodeLimit = func(context.Context, int) (func(), error) { return func() {}, nil }
	}
	b.health = healthpb.NewHealthClient(conn)
	mux := newMux(b.log, func() *exposed { return b.exposed })
	streams := &streams{conn: conn, conns: b.conns, mux: mux, log: b.log, timing: timing{
		commitWindow: cmp.Or(config.CommitWindow, 5*time.Second),
		heartbeat:    cmp.Or(config.Heartbeat, 15*time.Second),
		writeTimeout: b.writeTimeout,
		start:        time.Now(),
	}}
	completions := &completions{
		client:   completionv1.NewCompletionServiceClient(conn),
		mux:      mux,
		streams:  streams,
		decoder:  jsonbody.Decoder{Acquire: config.DecodeLimit, MaxBody: b.maxBody},
		draining: &b.draining,
		closing:  &b.closing,
		log:      b.log,
	}
	router := &router{completions: completions, openai: newOpenAI(completions, config), health: b.health}
	router.register()
	var err error
	if b.exposed, err = newExposed(config, completions); err != nil {
		return nil, err
	}
	router.exposed = b.exposed
	if b.hosts, err = newHosts(config.Hosts); err != nil {
		b.exposed.close()
		return nil, err
	}
	if b.handler, err = guardOrigin(config, b.log, router); err != nil {
		b.exposed.close()
		return nil, err
	}
	return b, nil
}

// ServeHTTP implements http.Handler.
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(requestIDHeader)
	if !safeRequestID.MatchString(id) {
		id = rand.Text()
	}
	r.Header.Set(requestIDHeader, id)
	w.Header().Set(requestIDHeader, id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	boundHeader(r.Header)
	timeout := r.Header.Get("Grpc-Timeout")
	r.Header.Del("Grpc-Timeout") // to the gateway a deadline, which would cut streams
	bounded := &boundedWriter{ResponseWriter: w, timeout: b.writeTimeout, grpcTimeout: timeout}
	if b.observe != nil {
		bounded.observation = &observation{done: b.observe(r), answer: Answer{Cut: true}}
		defer bounded.observation.end()
	}
	defer b.recover(bounded, r)
	finishBody := boundBody(w, r, b.maxBody, &b.bodies)
	if r.ProtoMajor == 1 { // over HTTP/2, it would reset a response that is still waited for
		bounded.setDeadline() // the connection may have an old one
	}
	if err := b.hosts.check(r); err != nil { // before CORS, which may answer by itself
		writeError(bounded, r, b.log, err)
	} else {
		b.handler.ServeHTTP(bounded, r)
	}
	if finishBody() {
		bounded.setDeadline()
	}
	if o := bounded.observation; o != nil && !o.elsewhere {
		o.answer.Cut = false // the handler has not panicked
	}
}

// safeRequestID is what a caller may name its request: it goes into headers,
// metadata and logs.
var safeRequestID = regexp.MustCompile(`^[A-Za-z0-9._:/+=@-]{1,128}$`)

// Configure has an http.Server tell the bridge of its connections. It is called before
// the server serves. See http1.Conns for this and the three below.
func (b *Bridge) Configure(s *http.Server) { b.conns.Configure(s) }

// Listener returns a listener for an http.Server that serves the bridge, through
// which connections go back to the server after a stream. Without it, a connection
// is closed after a stream over HTTP/1.1. It is called once.
func (b *Bridge) Listener(l net.Listener) net.Listener { return b.conns.Listener(l) }

// Wait waits for the end of the streams that http.Server.Shutdown does not know of,
// since they have taken their connections from it.
func (b *Bridge) Wait() { b.conns.Wait() }

// Close cuts those streams, and closes their connections.
func (b *Bridge) Close() {
	b.conns.Close()
	b.exposed.close()
}

// boundedWriter is the ResponseWriter of a request. It gives the client a deadline when
// the answer begins; what goes on for longer, as a stream does, sets others.
type boundedWriter struct {
	http.ResponseWriter
	timeout     time.Duration
	begun       bool
	observation *observation // nil: nobody observes
	grpcTimeout string       // the request's header
}

// grpcTimeoutOf returns the header grpc-timeout of a request, given the http.ResponseWriter
// that its handler has got.
func grpcTimeoutOf(w http.ResponseWriter) string {
	if b, ok := w.(*boundedWriter); ok {
		return b.grpcTimeout
	}
	return ""
}

// WriteHeader implements http.ResponseWriter.
func (w *boundedWriter) WriteHeader(status int) {
	w.begun = true
	if o := w.observation; o != nil && o.answer.Status == 0 {
		o.answer.Status = status
	}
	w.setDeadline()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *boundedWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Begun tells whether the answer has begun.
func (w *boundedWriter) Begun() bool { return w.begun }

// Unwrap is for http.ResponseController.
func (w *boundedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *boundedWriter) setDeadline() {
	// Not every ResponseWriter of a test can; a connection's can.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout))
}
