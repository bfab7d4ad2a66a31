// Package app is the program: it puts the two halves together, the gRPC face and the
// HTTP face, serves in one process or in two, and takes them apart again in order. What
// a half is told stands in flags.go.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-sse/sluice/bridge"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/server"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/engine/echo"
	"github.com/sluice-sse/sluice/server/engine/openai"
	"github.com/sluice-sse/sluice/server/journal"
)

// sameSignal is how long a signal may be repeated and is still one. Who starts the program
// may pass on to it what the whole process group has got, as timeout and npm run do;
// nobody presses Ctrl-C twice as fast.
const sameSignal = 100 * time.Millisecond

// Main is Run as the operating system starts it: with its arguments, its environment and
// its signals. It returns the exit status. The first SIGINT or SIGTERM stops in order, a
// second one ends the process.
func Main(args []string) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-signals
		cancel()
		first := time.Now()
		for range signals {
			if time.Since(first) > sameSignal {
				fmt.Fprintln(os.Stderr, "sluice: stopped at once")
				os.Exit(1)
			}
		}
	}()
	warnings, err := unknownVariables(os.Environ())
	for _, warning := range warnings {
		fmt.Fprintln(os.Stderr, "sluice: warning:", warning)
	}
	if err == nil {
		err = Run(ctx, args, os.Getenv, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sluice:", err)
		return 1
	}
	return 0
}

// Run is the program: it serves until ctx is done and then stops in order. What
// it listens on goes to stdout, the log to stderr.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	command, err := parse(args, getenv, stdout, stderr)
	if errors.Is(err, errHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	switch c := command.(type) {
	case *serverCommand:
		err = c.run(ctx, getenv, stdout, log)
	case *bridgeCommand:
		err = c.run(ctx, stdout, log)
	case *bothCommand:
		err = c.run(ctx, getenv, stdout, log)
	}
	return err
}

func (c *serverCommand) run(ctx context.Context, getenv func(string) string, stdout io.Writer, log *slog.Logger) error {
	room := newRoom(c.MaxBody)
	s, err := newServerHalf(&c.serverFlags, &c.commonFlags, room, getenv, log)
	if err != nil {
		return err
	}
	defer s.close()
	fmt.Fprint(stdout, banner("", s.addr(), c.behind(s.keyed), c.hello()))
	return c.serve(ctx, log, s)
}

func (c *bridgeCommand) run(ctx context.Context, stdout io.Writer, log *slog.Logger) error {
	room := newRoom(c.MaxBody)
	conn, err := dial(c.Server, log)
	if err != nil {
		return err
	}
	defer conn.Close()
	b, err := newBridgeHalf(conn, &c.bridgeFlags, &c.commonFlags, room, log)
	if err != nil {
		return err
	}
	fmt.Fprint(stdout, banner(b.addr(), "", c.behind(), helloEcho))
	return c.serve(ctx, log, b)
}

func (c *bothCommand) run(ctx context.Context, getenv func(string) string, stdout io.Writer, log *slog.Logger) error {
	room := newRoom(c.MaxBody)
	s, err := newServerHalf(&c.serverFlags, &c.commonFlags, room, getenv, log)
	if err != nil {
		return err
	}
	defer s.close()
	conn := &inproc.Conn{}
	completionv1.RegisterCompletionServiceServer(conn, s.server)
	healthpb.RegisterHealthServer(conn, s.health)
	b, err := newBridgeHalf(conn, &c.bridgeFlags, &c.commonFlags, room, log)
	if err != nil {
		return err
	}
	fmt.Fprint(stdout, banner(b.addr(), s.addr(), c.behind(s.keyed), c.hello()))
	return c.serve(ctx, log, s, b)
}

// serverHalf is the gRPC face and all that is behind it.
type serverHalf struct {
	server   *server.Server
	grpc     *grpc.Server
	health   *health.Server
	listener net.Listener
	journal  *journal.Memory
	pacer    *pacer         // of the garbage collector; nil: there is none
	upstream *openai.Engine // nil: there is none
	keyed    bool           // the upstream gets a key
}

func newServerHalf(f *serverFlags, common *commonFlags, room room, getenv func(string) string, log *slog.Logger) (*serverHalf, error) {
	h := &serverHalf{}
	var upstream engine.Engine
	if f.OpenAIBaseURL != "" {
		key, err := f.apiKey(getenv)
		if err != nil {
			return nil, err
		}
		h.keyed = key != ""
		h.upstream, err = openai.New(openai.Config{
			BaseURL:        f.OpenAIBaseURL,
			Key:            key,
			APIType:        f.OpenAIAPIType,
			APIVersion:     f.OpenAIAPIVersion,
			ConnectTimeout: time.Duration(f.ConnectTimeout),
		})
		if err != nil {
			return nil, err
		}
		upstream = h.upstream
	}
	var err error
	if h.listener, err = listen("--grpc", f.GRPC); err != nil {
		return nil, err
	}
	h.journal = journal.NewMemory(journal.MemoryConfig{
		Retention:     time.Duration(f.Retention),
		Bytes:         int64(f.JournalMemory),
		MaxCompletion: int64(f.MaxCompletionBytes),
	})
	if getenv("GOGC") == "" { // else it is the operator's to say
		h.pacer = startPacer(h.journal.Bytes)
	}
	h.server = server.New(server.Config{
		Echo:               &echo.Engine{Interval: f.EchoInterval},
		OpenAI:             upstream,
		DefaultModel:       f.Model,
		Journal:            h.journal,
		Log:                log,
		MaxDisconnectGrace: f.MaxDisconnectGrace,
		FirstTokenTimeout:  time.Duration(f.FirstTokenTimeout),
		IdleTimeout:        time.Duration(f.IdleTimeout),
		TotalTimeout:       time.Duration(f.TotalTimeout),
		MaxBody:            int64(common.MaxBody),
		Room:               room,
	})
	h.grpc, h.health = server.Register(h.server, time.Duration(common.WriteTimeout))
	return h, nil
}

func (h *serverHalf) addr() string { return h.listener.Addr().String() }
func (h *serverHalf) serve() error { return h.grpc.Serve(listenGRPC(h.listener)) }

func (h *serverHalf) stop(ctx context.Context, seen <-chan struct{}) {
	h.health.Shutdown()
	h.server.Drain(ctx)
	<-seen
	server.Stop(ctx, h.server, h.grpc, h.health)
}

// close lets go of everything once the half has stopped, or was never served.
func (h *serverHalf) close() {
	h.grpc.Stop()
	h.listener.Close() // which nobody has yet, if it was never served
	h.server.Close()
	h.journal.Close()
	if h.pacer != nil {
		h.pacer.stop()
	}
	if h.upstream != nil {
		h.upstream.Close()
	}
}

// bridgeHalf is the HTTP face.
type bridgeHalf struct {
	bridge   *bridge.Bridge
	http     *http.Server
	listener net.Listener
	cut      context.CancelFunc // of all requests
}

func newBridgeHalf(conn grpc.ClientConnInterface, f *bridgeFlags, common *commonFlags, room room, log *slog.Logger) (*bridgeHalf, error) {
	h := &bridgeHalf{}
	var err error
	if h.listener, err = listen("--http", f.HTTP); err != nil {
		return nil, err
	}
	h.bridge, err = bridge.New(conn, bridge.Config{
		CommitWindow: time.Duration(f.CommitWindow),
		Heartbeat:    time.Duration(f.Heartbeat),
		WriteTimeout: time.Duration(common.WriteTimeout),
		MaxBody:      int64(common.MaxBody),
		Room:         room,
		CORSOrigins:  f.CORSOrigin,
		Hosts:        f.hosts(h.listener.Addr()),
		Log:          log,
	})
	if err != nil {
		h.listener.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cut = cancel
	h.http = &http.Server{
		Handler:           h.bridge,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		Protocols:         &http.Protocols{},
		// net/http would answer OPTIONS * by itself: for any host, and reading any body.
		DisableGeneralOptionsHandler: true,
		// A client whose machine is gone says nothing: ping it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 20 * time.Second, PingTimeout: 10 * time.Second},
	}
	h.bridge.Configure(h.http)
	h.http.Protocols.SetHTTP1(true)
	h.http.Protocols.SetUnencryptedHTTP2(true) // browsers want TLS for it, proxies do not
	return h, nil
}

// hosts returns what a request may have as Host. On loopback, nobody but this machine
// can call, and what its browsers may bring in by another name is kept out. A server
// elsewhere is called by the names of its services and proxies, which it does not know,
// and what anybody can reach is not guarded by its name.
func (f *bridgeFlags) hosts(listener net.Addr) []string {
	tcp, ok := listener.(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		return f.AllowHost
	}
	hosts := append([]string{tcp.IP.String()}, f.AllowHost...)
	if name, _, err := net.SplitHostPort(f.HTTP); err == nil && name != "" {
		hosts = append(hosts, name)
	}
	return hosts
}

func (h *bridgeHalf) addr() string { return h.listener.Addr().String() }

func (h *bridgeHalf) serve() error {
	if err := h.http.Serve(h.bridge.Listener(h.listener)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// lastWrite is how long, after the drain, clients have to take the end of their
// streams, which the server writes when the drain is over.
const lastWrite = time.Second

func (h *bridgeHalf) stop(ctx context.Context, seen <-chan struct{}) {
	h.bridge.Drain()
	<-seen
	late := context.AfterFunc(ctx, func() { time.AfterFunc(lastWrite, h.cutAll) })
	defer late()
	// Shutdown waits for open streams, for ever if it must; cut ends those that
	// are left.
	_ = h.http.Shutdown(context.WithoutCancel(ctx))
	h.bridge.Wait()
	h.cutAll()
}

// cutAll ends all requests and streams, and those, too, that wait for a client which
// takes nothing.
func (h *bridgeHalf) cutAll() {
	h.cut()
	h.bridge.Close()
	h.http.Close()
}
