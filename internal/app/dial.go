package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"

	"github.com/sluice-sse/sluice/internal/auth"
)

// What may be on its way from the server of one stream, and of all, in bytes. Fixed
// sizes bound what a slow client has waiting here, and grpc-go need not look for
// better ones: that takes a quarter of what an event costs when events come fast.
const (
	streamWindow     = 256 << 10
	connectionWindow = 16 << 20
)

// maxBackoff is the longest pause between two tries to reach the server, which is not
// far and has few bridges. grpc-go's own is two minutes, after an outage as long.
const maxBackoff = 2 * time.Second

// dial returns a connection to a server, which is made in the background and again
// when it is lost. It returns an error for what is no target.
//
// Of several servers it is to one at a time (pick_first), unless they share a journal: they
// keep completions each for itself, and in turn to all, a completion would be resumed where
// nobody knows it, and a key would pay once on each.
//
// A stranger's server is one that may be no Sluice.
func dial(target string, shared, stranger bool, creds credentials.TransportCredentials, log *slog.Logger, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	if err := checkTarget(target); err != nil {
		return nil, fmt.Errorf("--server %s: %w", target, err)
	}
	backoffs := backoff.DefaultConfig
	backoffs.MaxDelay = maxBackoff
	policy := "pick_first"
	if shared {
		policy = "round_robin"
	}
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + policy + `":{}}]}`),
		grpc.WithTransportCredentials(creds),
		grpc.WithChainUnaryInterceptor(viaBridge.unary),
		grpc.WithChainStreamInterceptor(viaBridge.stream),
		grpc.WithDisableServiceConfig(), // a TXT record could say round_robin
		grpc.WithResolvers(sortedResolver{resolver.Get("dns"), shared, log}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoffs, MinConnectTimeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceived)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter(stranger), Timeout: 10 * time.Second}),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connectionWindow),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("--server %s: %w", target, err)
	}
	conn.Connect() // now, so that the log says at the start if there is no such server
	return conn, nil
}

// compression is how all calls of a bridge are compressed on their way.
func (c *bridgeCommand) compression() []grpc.DialOption {
	if c.Compression == gzip.Name {
		return []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name))}
	}
	return nil
}

// pingAfter is how long a connection is silent before the server is asked whether it is there.
// Ours lets itself be asked often. Others, as gRPC has it, close the connection with
// ENHANCE_YOUR_CALM after the third ping within less than five minutes each on which they had
// nothing to send (https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md):
// a stream that is silent for a minute would end all others, too.
func pingAfter(stranger bool) time.Duration {
	if stranger {
		return 6 * time.Minute
	}
	return 20 * time.Second
}

// marker adds to the metadata of all calls that they are not the bridge's own. Else a
// bridge with a certificate would lend its name to those who have no credentials.
type marker string

const viaBridge marker = auth.ViaBridge

func (m marker) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(metadata.AppendToOutgoingContext(ctx, string(m), "1"), method, req, reply, conn, opts...)
}

func (m marker) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(metadata.AppendToOutgoingContext(ctx, string(m), "1"), desc, conn, method, opts...)
}

// maxReceived is the largest message in bytes that a bridge takes from its server:
// more than any completion that is answered in one piece.
const maxReceived = 1 << 30

// checkTarget refuses what grpc-go would take, and make something else of: a URL, which
// is a name to it, and an address without a port, for which it takes 443.
func checkTarget(target string) error {
	scheme, endpoint, _ := strings.Cut(target, ":")
	if resolver.Get(scheme) == nil {
		if before, after, ok := strings.Cut(target, "://"); ok {
			return fmt.Errorf("%s:// is not how gRPC names a server: write HOST:PORT, such as %s", before, hostPort(after))
		}
		scheme, endpoint = "dns", target
	}
	if scheme != "dns" && scheme != "passthrough" {
		return nil // of another kind: a file's name
	}
	if rest, ok := strings.CutPrefix(endpoint, "//"); ok { // an authority, and a slash
		_, endpoint, _ = strings.Cut(rest, "/")
	}
	_, port, err := net.SplitHostPort(endpoint)
	if err != nil || port == "" {
		return errors.New("write HOST:PORT, such as 127.0.0.1:9090 or [::1]:9090")
	}
	if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
		return fmt.Errorf("%s is not a port", port)
	}
	return nil
}

// hostPort is the HOST:PORT that is meant by what stands behind a URL's scheme.
func hostPort(rest string) string {
	host, _, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	host = cmp.Or(host, "127.0.0.1")
	if _, _, err := net.SplitHostPort(host); err != nil {
		host += ":9090"
	}
	return host
}

// sortedResolver resolves names as dns does, and logs what cannot be resolved, and what
// is several servers. It sorts their addresses, so that all bridges use the same one, and
// return to it.
type sortedResolver struct {
	resolver.Builder
	shared bool // the servers share a journal: several are right
	log    *slog.Logger
}

// Build implements resolver.Builder.
func (b sortedResolver) Build(target resolver.Target, conn resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	return b.Builder.Build(target, &sortedConn{ClientConn: conn, shared: b.shared, log: b.log.With("target", target.Endpoint())}, opts)
}

// sortedConn gets the addresses from the resolver, on one goroutine.
type sortedConn struct {
	resolver.ClientConn
	shared bool
	log    *slog.Logger
	failed bool   // the last time
	warned string // the addresses that a warning has named
}

// UpdateState implements resolver.ClientConn.
func (r *sortedConn) UpdateState(s resolver.State) error {
	if len(s.Endpoints) == 0 { // as grpc-go has it, there is no such name
		r.fail(errors.New("there is no address"))
	} else {
		r.failed = false
	}
	s.Endpoints = slices.SortedFunc(slices.Values(s.Endpoints), func(a, b resolver.Endpoint) int {
		return cmp.Compare(firstAddr(a), firstAddr(b))
	})
	s.Addresses = nil // the same, as they were before there were endpoints
	r.warn(s.Endpoints)
	return r.ClientConn.UpdateState(s)
}

func firstAddr(e resolver.Endpoint) string {
	if len(e.Addresses) == 0 {
		return ""
	}
	return e.Addresses[0].Addr
}

// warn logs that there are several servers. One may have an IPv4 and an IPv6 address, as
// localhost has.
func (r *sortedConn) warn(endpoints []resolver.Endpoint) {
	var addrs []string
	ipv4, ipv6 := 0, 0
	for _, e := range endpoints {
		addrs = append(addrs, firstAddr(e))
		addr, err := netip.ParseAddrPort(firstAddr(e))
		switch {
		case err != nil:
		case addr.Addr().Unmap().Is4():
			ipv4++
		default:
			ipv6++
		}
	}
	if all := strings.Join(addrs, " "); max(ipv4, ipv6) > 1 && all != r.warned && !r.shared {
		r.warned = all
		r.log.Warn("--server names several servers, and without --shared-journal one at a time is used", "addresses", all)
	}
}

// ReportError implements resolver.ClientConn.
func (r *sortedConn) ReportError(err error) {
	r.fail(err)
	r.ClientConn.ReportError(err)
}

// fail logs once that there is no address.
func (r *sortedConn) fail(err error) {
	if !r.failed {
		r.log.Warn("--server cannot be resolved: it is tried again", "cause", err)
	}
	r.failed = true
}
