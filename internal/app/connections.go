package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/sluice-sse/sluice/internal/connlimit"
)

// connectionFlags bound what clients get before they are asked who they are.
type connectionFlags struct {
	MaxConnections count            `default:"${max_connections}" help:"How many connections a listener has at the same time. One more is closed. By default 20000, or a third of the files that the program may have open."`
	MaxHeader      byteSize         `default:"64KiB" help:"How many bytes the header fields of a request may have."`
	HeaderTimeout  positiveDuration `default:"10s" help:"For the header of a request, and for the beginnings of TLS and gRPC."`
}

// httpConnectionFlags are those of the HTTP face. HTTP/2 has many requests on one connection.
type httpConnectionFlags struct {
	BodyMemory     byteSize `default:"256MiB" help:"The most memory for request bodies that are on their way, beyond 64KiB each. One more is refused."`
	ResponseMemory byteSize `default:"256MiB" help:"The most memory for what responses of OpenAI's API have said that are being read, beyond 64KiB each. One more is refused, and what does not fit of one ends with an error; it can be read again."`
	MaxStreams     count    `default:"100" help:"How many requests of one HTTP/2 connection may run at the same time."`
	MaxResets      count    `default:"100" help:"How many requests of one HTTP/2 connection may be broken off a second in the long run, and five times as many at once. With one more, it is closed."`
}

// grpcConnectionFlags are the same for gRPC, and far more: a bridge has the requests of all
// its clients on one connection.
type grpcConnectionFlags struct {
	GRPCMaxStreams count `name:"grpc-max-streams" default:"30000" help:"How many calls of one gRPC connection may run at the same time: a bridge makes those of all its clients on one."`
	GRPCMaxResets  count `name:"grpc-max-resets" default:"2000" help:"How many calls of one gRPC connection may be broken off a second in the long run, and five times as many at once. With one more, it is closed."`
}

// defaultConnections is the default of --max-connections, given how many files may be open
// (0: nobody knows). Each stream over HTTP/1.1 takes two: a third each for both listeners
// leaves one for the upstream.
func defaultConnections(files uint64) int {
	const most = 20000
	if files == 0 || files/3 > most {
		return most
	}
	return max(1, int(files/3))
}

// maxMaxHeader bounds --max-header: the two kinds of servers count in different types.
const maxMaxHeader = 16 << 20

func (f *connectionFlags) check() error {
	if f.MaxHeader < 1<<10 || f.MaxHeader > maxMaxHeader {
		return fmt.Errorf("--max-header=%d: it may be from 1KiB to 16MiB", f.MaxHeader)
	}
	return nil
}

// listen listens where a flag says, and bounds the connections there.
func (f *connectionFlags) listen(flag, address string, p *program) (net.Listener, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	l, err := listen(flag, address)
	if err != nil {
		return nil, err
	}
	protocol := strings.TrimPrefix(flag, "--")
	refusals := &occasional{every: 10 * time.Second}
	return connlimit.Listener(l, int(f.MaxConnections), func() {
		p.telemetry.Refused(protocol, "overloaded", "max_connections")
		if n := refusals.add(); n > 0 {
			p.log.Warn("connections are refused: there are as many as --max-connections", "listener", flag, "refused", n)
		}
	}), nil
}

// limitHTTP bounds the connections of an http.Server.
func (f *connectionFlags) limitHTTP(s *http.Server, http2 *httpConnectionFlags, p *program) {
	s.ReadHeaderTimeout, s.MaxHeaderBytes = time.Duration(f.HeaderTimeout), int(f.MaxHeader)
	s.HTTP2.MaxConcurrentStreams = int(http2.MaxStreams)
	resets := &connlimit.HTTP{PerSecond: int(http2.MaxResets), Closed: closedForResets(p, "http", "max_resets")}
	s.ConnContext = resets.ConnContext
	s.Handler = resets.Handler(s.Handler)
}

// limitGRPC returns what bounds the connections of a grpc.Server that has such credentials.
func (f *connectionFlags) limitGRPC(http2 *grpcConnectionFlags, c credentials.TransportCredentials, p *program) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(connlimit.GRPC(c, int(http2.GRPCMaxResets), closedForResets(p, "grpc", "grpc_max_resets"))),
		grpc.ConnectionTimeout(time.Duration(f.HeaderTimeout)),
		grpc.MaxHeaderListSize(uint32(f.MaxHeader)),
		grpc.MaxConcurrentStreams(uint32(http2.GRPCMaxStreams)),
	}
}

func closedForResets(p *program, protocol, limit string) func(net.Addr) {
	flag := "--" + strings.ReplaceAll(limit, "_", "-")
	return func(remote net.Addr) {
		p.telemetry.Refused(protocol, "overloaded", limit)
		p.log.Info("a connection is closed: its client breaks off more requests than "+flag, "remote", remote.String())
	}
}

// occasional says when something that may happen often is to be told.
type occasional struct {
	every time.Duration

	mu     sync.Mutex // guards the two below
	told   time.Time  // when it was
	untold int        // how often it has happened since
}

// add returns how often it has happened that is to be told now; 0: it is not.
func (o *occasional) add() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.untold++
	if now := time.Now(); now.Sub(o.told) >= o.every {
		n, o.untold, o.told = o.untold, 0, now
	}
	return n
}

// errorLog is an http.Server's ErrorLog. What clients bring about, such as a handshake
// that is broken off, is for who looks for it: else anybody could fill the log.
type errorLog struct{ log *slog.Logger }

// Write implements io.Writer.
func (e errorLog) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	level := slog.LevelWarn
	for _, prefix := range []string{"http: TLS handshake error", "http2: server", "http2: received GOAWAY", "timeout waiting for "} {
		if strings.HasPrefix(line, prefix) {
			level = slog.LevelDebug
		}
	}
	e.log.Log(context.Background(), level, line)
	return len(p), nil
}
