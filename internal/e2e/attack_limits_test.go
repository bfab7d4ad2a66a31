package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// goodReaders is how many good clients there are of each kind.
const goodReaders = 4

// siege is an attack of many on a program in a process of its own, while good clients read
// 50 tokens a second, and others the same from the upstream: what they feel is the
// machine's, and this process's, in which upstream, attackers and clients are.
type siege struct {
	*testbed.Process
	name   string
	good   *goodClients
	direct *goodClients
	secure *tls.Config        // nil: without TLS
	end    context.CancelFunc // of what the good clients read
	before int64              // bytes of memory, with them
}

// besiege starts the program, with TLS or without, and the good clients.
func besiege(t *testing.T, name string, secure bool, u *e2etest.Upstream, args string) *siege {
	t.Helper()
	testbed.NeedProc(t)
	s := &siege{name: name + ", without TLS", good: &goodClients{}, direct: &goodClients{}}
	if secure {
		s.name = name + ", with TLS"
		authority := testbed.NewAuthority(t)
		cert, key := authority.Issue(t, "127.0.0.1")
		args += " --tls-cert=" + written(t, cert) + " --tls-key=" + written(t, key)
		s.secure = &tls.Config{RootCAs: authority.Pool()}
		s.good.secure = s.secure
	}
	s.Process = testbed.Start(t, "sluice --http=127.0.0.1:0 --grpc=127.0.0.1:0 --openai-base-url="+u.URL+"/v1 "+args)
	t.Cleanup(s.Stop)
	ctx, cancel := context.WithCancel(t.Context())
	s.end = cancel
	err := s.good.start(ctx, s.Addrs[0], goodReaders, 1_000_000)
	if err == nil {
		err = s.direct.start(ctx, strings.TrimPrefix(u.URL, "http://"), goodReaders, 1_000_000)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Tell("collect")
	s.before = s.Proc("status", "\nVmRSS:") << 10
	return s
}

// written returns a file of the test's with some content.
func written(t *testing.T, content []byte) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err == nil {
		_, err = f.Write(content)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// dial connects to the HTTP face, and lets the kernel take little of what is sent back.
func (s *siege) dial() (net.Conn, error) {
	c, err := net.Dial("tcp", s.Addrs[0])
	if err != nil {
		return nil, err
	}
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	if s.secure == nil {
		return c, nil
	}
	config := s.secure.Clone()
	config.ServerName = "127.0.0.1"
	return tls.Client(c, config), nil
}

// lift ends the siege, once what it has left behind is gone, and prints what it cost: the
// memory at its peak and afterwards, and what good clients have felt.
func (s *siege) lift(t *testing.T, peak int64, most int64) {
	t.Helper()
	var left int64
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		s.Tell("collect")
		left = s.Proc("status", "\nVmRSS:")<<10 - s.before
		if left <= most || time.Now().After(deadline) {
			break
		}
	}
	s.end()
	s.good.wait()
	s.direct.wait()
	if len(s.good.gaps) < 100 {
		t.Fatalf("the good clients got %d tokens", len(s.good.gaps))
	}
	p99 := percentile(s.good.gaps, 99)
	fmt.Fprintf(os.Stdout, "%s: %d MiB more at the peak, %d MiB more afterwards; good gap p50 %v, p99 %v, late p99 %v; without the program p50 %v, p99 %v, late p99 %v\n",
		s.name, peak>>20, left>>20, percentile(s.good.gaps, 50), p99, percentile(s.good.late, 99),
		percentile(s.direct.gaps, 50), percentile(s.direct.gaps, 99), percentile(s.direct.late, 99))
	if left > most {
		t.Errorf("%d MiB are left, want at most %d", left>>20, most>>20)
	}
	if p99 > time.Second { // which is the machine's, too
		t.Errorf("the good clients have waited %v", p99)
	}
}

func percentile(all []time.Duration, n int) time.Duration {
	slices.Sort(all)
	return all[len(all)*n/100].Round(time.Millisecond)
}

// underSiege runs an attack on a program with TLS and on one without.
func underSiege(t *testing.T, attack func(t *testing.T, secure bool)) {
	if underRace {
		return // which takes memory of its own: it is measured without
	}
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS=%v", secure), func(t *testing.T) { attack(t, secure) })
	}
}

// pacedOr answers requests for the models of good clients, and has others answered
// by a script.
func pacedOr(script http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		pace, err := testbed.ParsePace(e2etest.ModelOf(r))
		if err != nil {
			script(w, r)
			return
		}
		_ = pace.Play(r.Context(), &testbed.Gate{}, func(number int) error {
			e2etest.Say(w, string(testbed.AppendToken(nil, number)))
			return r.Context().Err()
		})
	}
}

// TestAttackAbandons has many clients leave a silent upstream to the server, for the
// longest grace: as many completions as may run are kept for them, and no more.
func TestAttackAbandons(t *testing.T) { underSiege(t, attackAbandons) }

func attackAbandons(t *testing.T, secure bool) {
	const most = 2000
	requests, atOnce := 10_000, 200
	if secure {
		requests, atOnce = 4000, 100 // handshakes take most of the time
	}
	release := make(chan struct{})
	var longest atomic.Int64
	var u *e2etest.Upstream
	u = e2etest.NewUpstream(t, pacedOr(func(w http.ResponseWriter, r *http.Request) {
		for open := u.Open.Load(); ; {
			if before := longest.Load(); before >= open || longest.CompareAndSwap(before, open) {
				break
			}
		}
		select {
		case <-release:
			e2etest.Refuse(500, "late")(w, r)
		case <-r.Context().Done():
		}
	}))
	s := besiege(t, fmt.Sprintf("%d requests with a grace of 10 min, --max-running %d", requests, most), secure, u, fmt.Sprintf("--max-running=%d", most))
	request := postCompletionOf(`{"model":"silent","messages":[{"role":"user","content":"Hi"}],"disconnectGrace":"600s"}`)
	var refused atomic.Int64
	memory, _ := s.Cost(func() {
		var all sync.WaitGroup
		places := make(chan struct{}, atOnce)
		for range requests {
			places <- struct{}{}
			all.Go(func() {
				defer func() { <-places }()
				if s.abandon(request) {
					refused.Add(1)
				}
			})
		}
		all.Wait()
	})
	e2etest.Eventually(t, "as many run as may", func() bool { return u.Open.Load() == most+goodReaders })
	if n := longest.Load(); n > most+goodReaders || refused.Load() == 0 {
		t.Errorf("%d ran at the same time, %d were refused", n, refused.Load())
	}
	e2etest.Eventually(t, "one more is refused", func() bool { return s.abandon(request) })
	close(release)
	e2etest.Eventually(t, "they have ended", func() bool { return u.Open.Load() == 2*goodReaders })
	s.lift(t, memory, 96<<20)
}

// abandon sends a request, and goes away if it is not refused at once.
func (s *siege) abandon(request string) (refused bool) {
	c, err := s.dial()
	if err != nil {
		return false
	}
	defer c.Close()
	if _, err := c.Write([]byte(request)); err != nil {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	answer := make([]byte, 12)
	n, err := c.Read(answer)
	return !errors.Is(err, os.ErrDeadlineExceeded) && strings.HasSuffix(string(answer[:n]), "429")
}

// TestAttackKeys has a client use another idempotency key for each request: -soak has it
// use a million.
func TestAttackKeys(t *testing.T) { underSiege(t, attackKeys) }

func attackKeys(t *testing.T, secure bool) {
	keys := 20_000
	if *long {
		keys = 1_000_000
	}
	u := e2etest.NewUpstream(t, pacedOr(e2etest.Refuse(500, "odd")))
	s := besiege(t, fmt.Sprintf("%d idempotency keys, --journal-memory 64MiB", keys), secure, u, "--journal-memory=64MiB --retention=1s --echo-interval=0s")
	transport := insecure.NewCredentials()
	if s.secure != nil {
		transport = credentials.NewTLS(s.secure)
	}
	conn, err := grpc.NewClient(s.Addrs[1], grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := completionv1.NewCompletionServiceClient(conn)
	memory, _ := s.Cost(func() {
		var all sync.WaitGroup
		const callers = 16
		for caller := range callers {
			all.Go(func() {
				for i := caller; i < keys; i += callers {
					if _, err := client.CreateCompletion(t.Context(), &completionv1.CompletionRequest{Model: "echo", Prompt: new("Hi"), IdempotencyKey: fmt.Sprintf("%0200d", i)}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	})
	s.lift(t, memory, 96<<20)
}

// TestAttackUnread has as many read a completion as may, none of whom takes anything: they
// are let go.
func TestAttackUnread(t *testing.T) { underSiege(t, attackUnread) }

func attackUnread(t *testing.T, secure bool) {
	const readers, size = 1000, 4 << 20
	begun, proceed := make(chan struct{}), make(chan struct{})
	u := e2etest.NewUpstream(t, pacedOr(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-proceed
		for range size >> 10 {
			e2etest.Say(w, strings.Repeat("x", 1<<10))
		}
		e2etest.Chunk(w, `{}`, "stop")
	}))
	s := besiege(t, fmt.Sprintf("%d readers that take nothing of %d MiB", readers, size>>20), secure, u, "--write-timeout=1s --retention=1s")
	request := postCompletionOf(`{"model":"long","messages":[{"role":"user","content":"Hi"}],"idempotencyKey":"k"}`)
	conns := make([]net.Conn, readers)
	memory, _ := s.Cost(func() {
		for i := range conns {
			c, err := s.dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte(request)); err != nil {
				t.Fatal(err)
			}
			conns[i] = c
			if i == 0 {
				<-begun
			}
		}
		close(proceed)
		e2etest.Eventually(t, "the completion ends", func() bool { return u.Open.Load() == 2*goodReaders })
		time.Sleep(2 * time.Second) // for longer than the write timeout
	})
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) || n > size {
			t.Errorf("a reader that took nothing is still read to, or had it all: %d bytes, %v", n, err)
			break
		}
	}
	s.lift(t, memory, 96<<20)
}
