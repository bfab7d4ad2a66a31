package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// instance is a server of its own, in a process of its own, and a bridge in front of it.
type instance struct {
	*testbed.Process
	client completionv1.CompletionServiceClient
	http   string
}

// startInstances starts servers that share a journal.
func startInstances(t *testing.T, store *testbed.Redis, u *e2etest.Upstream, n int) (all []*instance) {
	t.Helper()
	for range n {
		p := testbed.Start(t, "sluice server --grpc=127.0.0.1:0 --shutdown-delay=0s --openai-base-url="+u.URL+"/v1 --journal="+store.URL)
		conn, err := grpc.NewClient(p.Addrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		bridge := &e2etest.Program{Log: &e2etest.LockedBuffer{}}
		bridge.HTTP = e2etest.StartOne(t, bridge, nil, "bridge", "--http=127.0.0.1:0", "--server="+p.Addrs[0])[0]
		all = append(all, &instance{p, completionv1.NewCompletionServiceClient(conn), bridge.HTTP})
	}
	return all
}

// talk returns a script that says something every so often, until nobody listens; with the
// model "ends", three things.
func talk(interval time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ends := e2etest.ModelOf(r) == "ends"
		for i := 0; r.Context().Err() == nil && !(ends && i == 3); i++ {
			e2etest.Say(w, fmt.Sprint(i, " "))
			select {
			case <-time.After(interval):
			case <-r.Context().Done():
				return
			}
		}
		e2etest.Chunk(w, `{}`, "stop")
	}
}

// begin begins a completion, and returns its id and the stream, of which one event is read.
func (i *instance) begin(ctx context.Context, model string, grace time.Duration) (id string, stream grpc.ServerStreamingClient[completionv1.CompletionEvent], err error) {
	stream, err = i.client.StreamCompletion(ctx, &completionv1.CompletionRequest{
		Model: model, Messages: []*completionv1.Message{{Role: "user", Content: proto.String("Hi")}}, DisconnectGrace: durationpb.New(grace)})
	if err != nil {
		return "", nil, err
	}
	event, err := stream.Recv()
	return event.GetCreated().GetId(), stream, err
}

// rest reads a stream from behind a sequence to its end, and returns the last sequence and
// the status. A sequence that is not the next one is an error.
func rest(stream grpc.ServerStreamingClient[completionv1.CompletionEvent], after int32) (int32, *status.Status, error) {
	for {
		event, err := stream.Recv()
		if err == io.EOF {
			return after, status.New(codes.OK, ""), nil
		}
		if err != nil {
			return after, status.Convert(err), nil
		}
		if event.GetSequence() != after+1 {
			return after, nil, fmt.Errorf("event %d behind %d", event.GetSequence(), after)
		}
		after++
	}
}

// TestOwnerIsLost kills a server, or stops it for longer than its lease, while it has many
// completions. All their readers, wherever they are, get the same end; what had finished is
// read whole; and what the server still writes when it goes on is shown to nobody.
func TestOwnerIsLost(t *testing.T) {
	t.Parallel() // it waits for most of its time
	const finished = 20
	running := 200
	if underRace {
		running = 50
	}
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
	}{
		{"killed", syscall.SIGKILL},
		{"stopped", syscall.SIGSTOP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := e2etest.NewUpstream(t, talk(50*time.Millisecond))
			all := startInstances(t, testbed.StartRedis(t), u, 3)
			owner, others := all[0], all[1:]
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var done []string
			for range finished {
				id, stream, err := owner.begin(ctx, "ends", time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				if last, st, err := rest(stream, 1); last != 5 || st.Code() != codes.OK || err != nil {
					t.Fatalf("before: ends at %d with %v, %v", last, st, err)
				}
				done = append(done, id)
			}
			var ids []string
			var own []grpc.ServerStreamingClient[completionv1.CompletionEvent]
			for range running {
				id, stream, err := owner.begin(ctx, "talks", time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				ids, own = append(ids, id), append(own, stream)
			}
			var mu sync.Mutex // guards ends and lost
			ends, lost := map[string][]int32{}, time.Time{}
			var readers sync.WaitGroup
			var slowest time.Duration
			for _, other := range others {
				for i, id := range ids {
					readers.Go(func() {
						var last int32
						var st *status.Status
						if i%2 == 0 {
							stream, err := other.client.ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: id})
							if err == nil {
								last, st, err = rest(stream, 0)
							}
							if err != nil {
								t.Errorf("over gRPC: %v", err)
								return
							}
						} else {
							got, err := reader{p: &e2etest.Program{HTTP: other.http}, id: id}.get(ctx)
							if err != nil {
								t.Errorf("over HTTP: %v", err)
								return
							}
							last, st = int32(len(got.events)), got.status
						}
						mu.Lock()
						defer mu.Unlock()
						slowest = max(slowest, time.Since(lost))
						ends[id] = append(ends[id], last)
						if reason(st) != "OWNER_LOST" {
							t.Errorf("%s ends at %d with %v", id, last, st)
						}
					})
				}
			}
			time.Sleep(time.Second) // so that all read
			owner.Signal(tt.signal)
			mu.Lock()
			lost = time.Now()
			mu.Unlock()
			readers.Wait()
			fmt.Printf("owner of %d completions %s: %d readers of two other servers have OWNER_LOST within %.1f s\n", running, tt.name, running*len(others), slowest.Seconds())
			if slowest > 15*time.Second {
				t.Errorf("the last reader learned it after %v; want 15s", slowest)
			}
			for id, last := range ends {
				if slices.Min(last) != slices.Max(last) || last[0] < 2 {
					t.Errorf("%s ends differently for its readers: %v", id, last)
				}
			}
			if tt.signal == syscall.SIGSTOP {
				owner.Signal(syscall.SIGCONT)
				for i, stream := range own {
					if last, st, err := rest(stream, 1); last > ends[ids[i]][0] || reason(st) != "OWNER_LOST" || err != nil {
						t.Errorf("at the old owner, %s ends at %d with %v, %v; want %v", ids[i], last, st, err, ends[ids[i]])
					}
				}
				defer owner.Stop()
			} else {
				owner.Wait()
			}
			e2etest.Eventually(t, "nothing runs upstream", func() bool { return u.Open.Load() == 0 })
			for _, other := range others {
				for _, id := range done {
					if c, err := other.client.GetCompletion(ctx, &completionv1.GetCompletionRequest{Id: id}); err != nil || c.GetText() != "0 1 2 " || c.GetState() != completionv1.Completion_FINISHED {
						t.Errorf("what had finished: %v, %v", c, err)
					}
				}
				for id, last := range ends { // the end is the journal's last
					c, err := other.client.GetCompletion(ctx, &completionv1.GetCompletionRequest{Id: id})
					if err != nil || c.GetState() != completionv1.Completion_FAILED || c.GetLastSequence() != last[0]+1 {
						t.Errorf("%s is %v, %v; want the end behind %d", id, c, err, last[0])
					}
				}
				other.Stop()
			}
			if calls := u.Calls.Load(); calls != int64(running+finished) {
				t.Errorf("%d calls upstream for %d completions", calls, running+finished)
			}
		})
	}
}

// TestCancelElsewhere cancels completions, and leaves them, at another server than runs
// them, and measures how long the upstream then goes on.
func TestCancelElsewhere(t *testing.T) {
	const times = 100
	u := e2etest.NewUpstream(t, talk(10*time.Millisecond))
	all := startInstances(t, testbed.StartRedis(t), u, 2)
	defer all[1].Stop()
	defer all[0].Stop()
	for _, tt := range []struct {
		name string
		end  func(ctx context.Context, id string, leave func()) error // leave: the reader who began it goes
	}{
		{"cancelled", func(ctx context.Context, id string, _ func()) error {
			c, err := all[1].client.CancelCompletion(ctx, &completionv1.CancelCompletionRequest{Id: id})
			if err == nil && c.GetState() != completionv1.Completion_CANCELLED {
				err = fmt.Errorf("it is %v", c)
			}
			return err
		}},
		{"left", func(ctx context.Context, id string, leave func()) error {
			there, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := all[1].client.ResumeCompletion(there, &completionv1.ResumeCompletionRequest{Id: id})
			for range 3 { // it reads, and is all that reads
				if err == nil {
					_, err = stream.Recv()
				}
				leave()
			}
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var took []time.Duration
			for range times {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				own, leave := context.WithCancel(ctx)
				id, _, err := all[0].begin(own, "talks", 0)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if err := tt.end(ctx, id, func() { leave(); began = time.Now() }); err != nil {
					t.Fatal(err)
				}
				select {
				case gone := <-u.Gone:
					took = append(took, gone.Sub(began))
				case <-ctx.Done():
					t.Fatal("the upstream goes on")
				}
				leave()
				cancel()
			}
			slices.Sort(took)
			fmt.Printf("%s at another server: the upstream's connection closes within %v (median), %v (p99)\n", tt.name, took[times/2], took[times*99/100])
			if p99 := took[times*99/100]; p99 > time.Second { // 100 ms on a machine that has nothing else to do
				t.Errorf("p99 is %v", p99)
			}
		})
	}
}

var outage = flag.Duration("outage", 5*time.Second, "for how long TestStoreIsGone has no store")

// TestStoreIsGone has the store go for longer than anybody waits for it, and come back
// empty. What runs goes on for the readers of its server, and is whole for all others when
// the store is back.
func TestStoreIsGone(t *testing.T) {
	t.Parallel() // it waits for most of its time
	const running = 20
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		for i := range int(*outage/time.Second)*20 + 100 {
			e2etest.Say(w, fmt.Sprint(i, " "))
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
		e2etest.Chunk(w, `{}`, "stop")
	})
	store := testbed.StartRedis(t)
	all := startInstances(t, store, u, 2)
	ctx, cancel := context.WithTimeout(t.Context(), *outage+time.Minute)
	defer cancel()
	ends := make([]int32, running)
	var ids []string
	var own sync.WaitGroup
	for i := range running {
		id, stream, err := all[0].begin(ctx, "m", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		own.Go(func() {
			last, st, err := rest(stream, 1)
			if st.Code() != codes.OK || err != nil {
				t.Errorf("%s ends at %d with %v, %v for its own server's reader", id, last, st, err)
			}
			ends[i] = last
		})
	}
	store.Kill()
	time.Sleep(3 * time.Second)
	asked := func(header ...string) *http.Response {
		began := time.Now()
		resp := (&e2etest.Program{HTTP: all[0].http}).Post(t, `{"prompt":"Hi","model":"echo"}`, header...)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("a request takes %v", took)
		}
		return resp
	}
	if resp := asked("Idempotency-Key", "k"); resp.StatusCode != 503 {
		t.Errorf("with a key: %s", resp.Status)
	}
	resp := asked()
	if events, err := e2etest.Messages(resp.Body); resp.StatusCode != 200 || err != nil || events[len(events)-1].Event != "finished" {
		t.Errorf("without a key: %s, %v", resp.Status, err)
	}
	ready, err := http.Get(all[0].http + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(ready.Body)
	ready.Body.Close()
	if !strings.Contains(string(said), "store is gone") {
		t.Errorf("/readyz: %s %s", ready.Status, said)
	}
	time.Sleep(*outage - 3*time.Second)
	store.Start()
	own.Wait()
	for i, id := range ids {
		e2etest.Eventually(t, "what ran is whole elsewhere", func() bool {
			stream, err := all[1].client.ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: id})
			if err != nil {
				t.Fatal(err)
			}
			last, st, err := rest(stream, 0)
			return last == ends[i] && st.Code() == codes.OK && err == nil
		})
	}
	if calls := u.Calls.Load(); calls != running {
		t.Errorf("%d calls upstream for %d completions", calls, running)
	}
	for _, i := range all {
		i.Stop()
	}
}
