// Package app is the program: it puts the gRPC face and the HTTP face together, in one
// process or in two, serves, and stops in order. flags.go has what it can be told.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/certs"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/internal/telemetry"
)

// duplicateSignal is how long a signal may be repeated and is still one. Who starts the
// program may pass on to it what the whole process group has got, as timeout and npm run
// do; nobody presses Ctrl-C twice as fast.
const duplicateSignal = 100 * time.Millisecond

// Main runs the program as the operating system starts it: with its arguments, its
// environment and its signals. It returns the exit status. The first SIGINT or SIGTERM
// stops the program in order, a second one at once.
func Main(args []string) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-signals
		cancel()
		first := time.Now()
		for range signals {
			if time.Since(first) > duplicateSignal {
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

// Run runs the program until ctx is done, and then stops it in order. It prints where it
// listens to stdout, and logs to stderr.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	return run(ctx, args, getenv, stdout, stderr, interceptors{})
}

// interceptors are what every call of a method runs in, over gRPC or in one process: the
// first one is the outermost. newGRPCFace makes the one list of them.
type interceptors struct {
	unary  []grpc.UnaryServerInterceptor
	stream []grpc.StreamServerInterceptor
}

// add adds others, within those that are there.
func (i *interceptors) add(others interceptors) {
	i.unary, i.stream = append(i.unary, others.unary...), append(i.stream, others.stream...)
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer, i interceptors) error {
	command, err := parse(args, getenv, stdout, stderr)
	if errors.Is(err, errHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	p := &program{getenv: getenv, stdin: os.Stdin, stdout: stdout, stderr: stderr, interceptors: i}
	return command.run(ctx, p)
}

// program is what commands run with.
type program struct {
	getenv       func(string) string
	stdin        io.Reader
	stdout       io.Writer
	stderr       io.Writer // what is not for the log
	interceptors interceptors
	log          *slog.Logger // since startTelemetry, as the one below
	telemetry    *telemetry.Telemetry
	stores       map[certs.Files]*certs.Store // of the certificates that were asked for
}

func (c *serverCommand) run(ctx context.Context, p *program) error {
	about, stop, err := c.startTelemetry(p)
	if err != nil {
		return err
	}
	defer stop()
	s, err := newGRPCFace(p, &c.serverFlags, &c.commonFlags, newDecodeLimit(c.MaxBody))
	if err != nil {
		return err
	}
	defer s.close()
	fmt.Fprint(p.stdout, banner(address{}, s.addr(), c.upstreamLines(s.hasKey)+c.callersLine()+about, c.example()))
	return c.serve(ctx, p, s)
}

func (c *bridgeCommand) run(ctx context.Context, p *program) error {
	if c.TLSClientCA != "" {
		return errors.New("--tls-client-ca: a bridge alone cannot tell its server whose certificate it has seen: use keys or tokens, or both faces in one process")
	}
	about, stop, err := c.startTelemetry(p)
	if err != nil {
		return err
	}
	defer stop()
	creds, err := c.serverCredentials(p)
	if err != nil {
		return err
	}
	conn, err := dial(c.Server, c.SharedJournal, len(c.Expose) > 0, creds, p.log, c.compression()...)
	if err != nil {
		return err
	}
	defer conn.Close()
	b, err := newHTTPFace(p, conn, &c.bridgeFlags, &c.exposeFlags, &c.commonFlags, newDecodeLimit(c.MaxBody))
	if err != nil {
		return err
	}
	if !isLoopback(b.listener.Addr()) {
		p.log.Info("others can reach this bridge: who of them may call is the server's to decide", "server", c.Server)
	}
	fmt.Fprint(p.stdout, banner(b.addr(), address{}, c.serverLine()+about, c.example()))
	watching, stopWatching := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	watcher.Go(func() { b.bridge.WatchServer(watching) })
	defer watcher.Wait()
	defer stopWatching()
	return c.serve(ctx, p, b)
}

func (c *bothCommand) run(ctx context.Context, p *program) error {
	about, stop, err := c.startTelemetry(p)
	if err != nil {
		return err
	}
	defer stop()
	limit := newDecodeLimit(c.MaxBody)
	s, err := newGRPCFace(p, &c.serverFlags, &c.commonFlags, limit)
	if err != nil {
		return err
	}
	defer s.close()
	conn := &inproc.Conn{UnaryInterceptors: s.interceptors.unary, StreamInterceptors: s.interceptors.stream}
	completionv1.RegisterCompletionServiceServer(conn, s.server)
	healthpb.RegisterHealthServer(conn, s.health)
	b, err := newHTTPFace(p, conn, &c.bridgeFlags, &exposeFlags{}, &c.commonFlags, limit)
	if err != nil {
		return err
	}
	if err := c.checkOpen("--http", c.HTTP, b.listener.Addr()); err != nil {
		b.listener.Close()
		return err
	}
	fmt.Fprint(p.stdout, banner(b.addr(), s.addr(), c.upstreamLines(s.hasKey)+c.callersLine()+about, c.example()))
	return c.serve(ctx, p, s, b)
}
