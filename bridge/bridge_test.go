package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/internal/inproc/inproctest"
)

// The bridge in front of a scripted server, on a clock that stands still while
// anything runs. So there is no socket: the response is a recorder.

type eventStream = grpc.ServerStreamingServer[completionv1.CompletionEvent]

// service is a server whose streams are played by a function.
type service struct {
	completionv1.UnimplementedCompletionServiceServer
	play func(eventStream) error
}

func (s *service) StreamCompletion(_ *completionv1.CompletionRequest, stream eventStream) error {
	return s.play(stream)
}

func (s *service) ResumeCompletion(_ *completionv1.ResumeCompletionRequest, stream eventStream) error {
	return s.play(stream)
}

func (s *service) CreateCompletion(ctx context.Context, _ *completionv1.CompletionRequest) (*completionv1.Completion, error) {
	return &completionv1.Completion{Id: "cmpl_x"}, s.play(discarded{ctx: ctx})
}

// discarded is a stream whose events nobody reads.
type discarded struct {
	eventStream
	ctx context.Context
}

func (d discarded) Context() context.Context               { return d.ctx }
func (discarded) Send(*completionv1.CompletionEvent) error { return nil }
func (discarded) SendHeader(metadata.MD) error             { return nil }

func newBridge(t *testing.T, play func(eventStream) error, config bridge.Config) *bridge.Bridge {
	t.Helper()
	return newBridgeOn(t, "pushed", play, config)
}

// kinds are those of the connection: events are pushed in this process, and come
// over any other.
var kinds = []string{"pushed", "received"}

func newBridgeOn(t *testing.T, kind string, play func(eventStream) error, config bridge.Config) *bridge.Bridge {
	t.Helper()
	conn := &inproc.Conn{}
	completionv1.RegisterCompletionServiceServer(conn, &service{play: play})
	healthpb.RegisterHealthServer(conn, health.NewServer())
	var any grpc.ClientConnInterface = conn
	if kind == "received" {
		any = received{inproctest.Client{Conn: conn}}
	}
	b, err := bridge.New(any, config)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// received is a connection that cannot push.
type received struct{ grpc.ClientConnInterface }

// onBoth runs a test on both kinds of connection.
func onBoth(t *testing.T, name string, test func(t *testing.T, kind string)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(name+"/"+kind, func(t *testing.T) { test(t, kind) })
	}
}

func named(s eventStream, id string) error { return s.SendHeader(metadata.Pairs("completion-id", id)) }

func created(s eventStream) error {
	return s.Send(&completionv1.CompletionEvent{Sequence: 1, Event: &completionv1.CompletionEvent_Created{Created: &completionv1.Created{Id: "cmpl_x"}}})
}

func delta(s eventStream, sequence int32, text string) error {
	return s.Send(&completionv1.CompletionEvent{Sequence: sequence, Event: &completionv1.CompletionEvent_Delta{Delta: &completionv1.Delta{Text: text}}})
}

func finished(s eventStream, sequence int32) error {
	return s.Send(&completionv1.CompletionEvent{Sequence: sequence, Event: &completionv1.CompletionEvent_Finished{Finished: &completionv1.Finished{FinishReason: completionv1.Finished_STOP}}})
}

func failed(code codes.Code, reason string) error {
	s, err := status.New(code, "it failed").WithDetails(&errdetails.ErrorInfo{Domain: "completion.v1", Reason: reason})
	if err != nil {
		return err
	}
	return s.Err()
}

// recorder is the ResponseWriter of one exchange. It keeps each write apart, with
// the time when it was flushed.
type recorder struct {
	start time.Time
	block chan struct{} // while not nil, Write waits for it
	fail  error         // what Write returns
	spin  time.Duration // the longest that Write takes

	mu       sync.Mutex // guards all below
	header   http.Header
	code     int
	writes   []string
	pending  []byte
	deadline time.Time
	aborted  bool
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.code = code
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	block, fail := r.block, r.fail
	if r.deadline.Before(time.Now()) {
		fail = errors.New("a write with no deadline")
	}
	r.mu.Unlock()
	if block != nil {
		<-block
	}
	spin(r.spin)
	r.mu.Lock()
	defer r.mu.Unlock()
	if fail != nil {
		return 0, fail
	}
	if r.code == 0 {
		r.code = http.StatusOK
	}
	r.pending = append(r.pending, p...)
	return len(p), nil
}

func (r *recorder) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = append(r.writes, fmt.Sprintf("%v %s", time.Since(r.start), r.pending))
	r.pending = nil
}

func (r *recorder) SetWriteDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = t
	return nil
}

// exchange serves one request and returns when the handler has.
func exchange(t *testing.T, b *bridge.Bridge, r *recorder, req *http.Request) {
	t.Helper()
	defer func() {
		switch err := recover(); err {
		case nil:
		case http.ErrAbortHandler:
			r.aborted = true
		default:
			panic(err)
		}
	}()
	b.ServeHTTP(r, req)
}

func newRecorder() *recorder { return &recorder{start: time.Now(), header: http.Header{}} }

func post(ctx context.Context) *http.Request {
	return httptest.NewRequestWithContext(ctx, "POST", "/v1/completions", strings.NewReader(`{"prompt":"x"}`))
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const (
	block1 = "event: created\ndata: {\"sequence\":1,\"created\":{\"id\":\"cmpl_x\"}}\nretry: 1000\nid: cmpl_x_1\n\n"
	block2 = "event: delta\ndata: {\"sequence\":2,\"delta\":{\"text\":\"a\"}}\nid: cmpl_x_2\n\n"
	block3 = "event: finished\ndata: {\"sequence\":3,\"finished\":{\"finishReason\":\"STOP\"}}\nid: cmpl_x_3\n\n"
)

func TestSilence(t *testing.T) {
	tests := []struct {
		name string
		play func(s eventStream) error
		want []string
	}{
		{
			"the first event comes within the window",
			func(s eventStream) error {
				return errors.Join(named(s, "cmpl_x"), wait(s.Context(), 4*time.Second), created(s), delta(s, 2, "a"), wait(s.Context(), 16*time.Second), finished(s, 3))
			},
			[]string{"4s " + block1 + block2, "19s : hb\n", "20s " + block3},
		},
		{
			"it comes after the window",
			func(s eventStream) error {
				return errors.Join(named(s, "cmpl_x"), wait(s.Context(), 40*time.Second), created(s), wait(s.Context(), 14*time.Second), delta(s, 2, "a"), wait(s.Context(), 16*time.Second), finished(s, 3))
			},
			[]string{"5s : hb\n", "20s : hb\n", "35s : hb\n", "40s " + block1, "54s " + block2, "1m9s : hb\n", "1m10s " + block3},
		},
		{
			"the completion is named after the window",
			func(s eventStream) error {
				return errors.Join(wait(s.Context(), 6*time.Second), named(s, "cmpl_x"), created(s), delta(s, 2, "a"), finished(s, 3))
			},
			[]string{"5s : hb\n", "6s " + block1 + block2 + block3},
		},
	}
	for _, tt := range tests {
		onBoth(t, tt.name, func(t *testing.T, kind string) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				exchange(t, newBridgeOn(t, kind, tt.play, bridge.Config{}), r, post(t.Context()))
				if got := together(r.writes); got != together(tt.want) || r.code != 200 || r.aborted {
					t.Errorf("status %d, got\n%s\nwant\n%s", r.code, got, together(tt.want))
				}
			})
		})
	}
}

// together joins the writes of one instant: how many events gather for one write
// is up to the scheduler.
func together(writes []string) string {
	var b strings.Builder
	last := ""
	for _, w := range writes {
		at, text, _ := strings.Cut(w, " ")
		if at != last {
			fmt.Fprintf(&b, "at %s\n", at)
		}
		b.WriteString(text)
		last = at
	}
	return b.String()
}

func TestEnds(t *testing.T) {
	const jsonError = `{"error":{"code":%d,"status":"%s","message":"it failed","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"%s","domain":"completion.v1"}]}}`
	lost := status.Error(codes.Unavailable, "connection to 10.1.2.3 lost")
	tests := []struct {
		name    string
		play    func(s eventStream) error
		code    int
		body    string // what it ends with
		aborted bool
	}{
		{"refused", func(s eventStream) error { return failed(codes.NotFound, "MODEL_NOT_FOUND") },
			404, fmt.Sprintf(jsonError, 404, "NOT_FOUND", "MODEL_NOT_FOUND") + "\n", false},
		{"failed before the first event", func(s eventStream) error {
			return errors.Join(named(s, "cmpl_x"), failed(codes.DeadlineExceeded, "IDLE_TIMEOUT"))
		}, 504, "IDLE_TIMEOUT", false},
		{"failed after the window", func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), wait(s.Context(), 6*time.Second)); err != nil {
				return err
			}
			return failed(codes.FailedPrecondition, "ANY")
		}, 200, "event: error\ndata: " + fmt.Sprintf(jsonError, 422, "FAILED_PRECONDITION", "ANY") + "\nretry: 1000\nid: cmpl_x_1\n\n", false},
		{"failed after events", func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, "a")); err != nil {
				return err
			}
			return failed(codes.Unavailable, "UPSTREAM_TRUNCATED")
		}, 200, "event: error\ndata: " + fmt.Sprintf(jsonError, 503, "UNAVAILABLE", "UPSTREAM_TRUNCATED") + "\nid: cmpl_x_3\n\n", false},
		{"unreachable", func(s eventStream) error { return lost }, 503, "UPSTREAM_UNAVAILABLE", false},
		{"never named, lost after the window", func(s eventStream) error {
			_ = wait(s.Context(), 6*time.Second)
			return lost
		}, 200, "\n\n", false},
		{"lost before the first event, after the window", func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), wait(s.Context(), 6*time.Second)); err != nil {
				return err
			}
			return lost
		}, 200, ": hb\n", true},
		// These must not look like the completion's own end: it can be resumed.
		{"lost after events", func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, "a")); err != nil {
				return err
			}
			return lost
		}, 200, block2, true},
		{"the server lets a slow reader go", func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, "a")); err != nil {
				return err
			}
			return failed(codes.ResourceExhausted, "SLOW_READER")
		}, 200, block2, true},
		{"the rest is gone", func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, "a")); err != nil {
				return err
			}
			return failed(codes.OutOfRange, "EVENTS_EXPIRED")
		}, 200, block2, true},
		// Its client could come back for ever, and get the same each time.
		{"never named, gone after the window", func(s eventStream) error {
			_ = wait(s.Context(), 6*time.Second)
			return failed(codes.OutOfRange, "EVENTS_EXPIRED")
		}, 200, "event: error\ndata: " + fmt.Sprintf(jsonError, 410, "OUT_OF_RANGE", "EVENTS_EXPIRED") + "\nretry: 1000\n\n", false},
		{"no terminal event", func(s eventStream) error {
			return errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, "a"))
		}, 200, block2, true},
		{"the server breaks the numbering's type", func(s eventStream) error {
			return errors.Join(named(s, "cmpl_x"), s.Send(&completionv1.CompletionEvent{}))
		}, 503, "UPSTREAM_UNAVAILABLE", false},
		{"the server names no completion", func(s eventStream) error { return created(s) }, 503, "UPSTREAM_UNAVAILABLE", false},
		{"the server's name would break the stream", func(s eventStream) error {
			return errors.Join(named(s, "cmpl_x y"), created(s))
		}, 503, "UPSTREAM_UNAVAILABLE", false},
	}
	for _, tt := range tests {
		onBoth(t, tt.name, func(t *testing.T, kind string) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				exchange(t, newBridgeOn(t, kind, tt.play, bridge.Config{}), r, post(t.Context()))
				body := body(r)
				end := body
				if !strings.HasPrefix(tt.body, "UPSTREAM") && !strings.HasPrefix(tt.body, "IDLE") {
					end = body[max(0, len(body)-len(tt.body)):]
				}
				if r.code != tt.code || r.aborted != tt.aborted || !strings.Contains(end, tt.body) {
					t.Errorf("status %d, aborted %v, got\n%s\nwant %d, %v, an end of\n%s", r.code, r.aborted, body, tt.code, tt.aborted, tt.body)
				}
				if strings.Contains(body, "10.1.2.3") {
					t.Errorf("an address in\n%s", body)
				}
			})
		})
	}
}

// body is all that was written.
func body(r *recorder) string {
	var b bytes.Buffer
	for _, w := range r.writes {
		_, text, _ := strings.Cut(w, " ")
		b.WriteString(text)
	}
	b.Write(r.pending)
	return b.String()
}

// While one write is under way, events gather, and go out in the next one; the
// server's stream is held up when too much has gathered.
func TestEventsGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 3000 // about 200 KiB of blocks
		sent := 0
		b := newBridgeOn(t, "received", func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), created(s)); err != nil {
				return err
			}
			for sent < events {
				if err := delta(s, int32(sent+2), "a"); err != nil {
					return err
				}
				sent++
			}
			return finished(s, events+2)
		}, bridge.Config{})
		r := newRecorder()
		r.block = make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			exchange(t, b, r, post(t.Context()))
		}()
		synctest.Wait()
		if most := 2 * (64 << 10) / len(block2); sent < 500 || sent > most {
			t.Errorf("%d events were taken while nothing could be written, want some, but at most %d", sent, most)
		}
		r.mu.Lock()
		close(r.block)
		r.block = nil
		r.mu.Unlock()
		<-done
		if n := len(r.writes[1]); n < 60<<10 {
			t.Errorf("the first write that could go took %d bytes of what had gathered", n)
		}
		got, err := all(body(r))
		if err != nil || len(got) != events+2 || got[len(got)-1].Event != "finished" {
			t.Fatalf("%d events, %v", len(got), err)
		}
		for i, m := range got {
			if m.ID != fmt.Sprintf("cmpl_x_%d", i+1) {
				t.Fatalf("event %d has the id %s", i+1, m.ID)
			}
		}
	})
}

func all(stream string) ([]sse.Message, error) {
	r := sse.NewReader(strings.NewReader(stream), 1<<20)
	var got []sse.Message
	for {
		m, err := r.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, m)
	}
}

// The client's departure, and a client that takes nothing, end the server's
// stream.
func TestClientIsGone(t *testing.T) {
	for _, how := range []string{"leaves", "takes nothing"} {
		onBoth(t, how, func(t *testing.T, kind string) {
			synctest.Test(t, func(t *testing.T) {
				var ended error
				var log bytes.Buffer
				b := newBridgeOn(t, kind, func(s eventStream) error {
					err := errors.Join(named(s, "cmpl_x"), created(s), wait(s.Context(), time.Second), delta(s, 2, "a"))
					for err == nil {
						err = wait(s.Context(), time.Hour)
					}
					ended = err
					return err
				}, bridge.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
				ctx, leave := context.WithCancel(t.Context())
				r := newRecorder()
				done := make(chan struct{})
				go func() {
					defer close(done)
					exchange(t, b, r, post(ctx))
				}()
				synctest.Wait()
				r.mu.Lock()
				if how == "leaves" {
					leave()
				} else {
					r.fail = errors.New("i/o timeout")
				}
				r.mu.Unlock()
				<-done
				synctest.Wait()
				leave()
				if ended == nil || !r.aborted {
					t.Errorf("the server's stream ended with %v, aborted is %v", ended, r.aborted)
				}
				if log.Len() > 0 {
					t.Errorf("what clients do every day is in the log: %s", log.String())
				}
			})
		})
	}
}

func TestDrain(t *testing.T) {
	onBoth(t, "drain", func(t *testing.T, kind string) {
		synctest.Test(t, func(t *testing.T) {
			b := newBridgeOn(t, kind, func(s eventStream) error {
				return errors.Join(named(s, "cmpl_x"), created(s), wait(s.Context(), time.Second), delta(s, 2, "a"), delta(s, 3, "b"), finished(s, 4))
			}, bridge.Config{})
			ready := func() int {
				r := newRecorder()
				exchange(t, b, r, httptest.NewRequest("GET", "/readyz", nil))
				return r.code
			}
			if code := ready(); code != 200 {
				t.Errorf("before: %d", code)
			}
			r := newRecorder()
			done := make(chan struct{})
			go func() {
				defer close(done)
				exchange(t, b, r, post(t.Context()))
			}()
			synctest.Wait()
			b.Drain()
			if code := ready(); code != 503 {
				t.Errorf("while draining: %d", code)
			}
			<-done
			var millis int
			parts := strings.SplitAfter(body(r), "\n\n")
			if _, err := fmt.Sscanf(parts[1][strings.Index(parts[1], "retry: "):], "retry: %d\n", &millis); err != nil || millis < 1000 || millis >= 3000 {
				t.Errorf("no jittered retry in %q: %v", parts[1], err)
			}
			if strings.Contains(parts[2]+parts[3], "retry") {
				t.Errorf("retry again in %q", parts[2:])
			}
		})
	})
}

// The cursor at the terminal event: a GET has nothing to say, a POST says the end
// again.
func TestAtTheEnd(t *testing.T) {
	calls := 0
	b := newBridge(t, func(s eventStream) error {
		calls++
		if err := named(s, "cmpl_x"); err != nil || calls%2 == 1 {
			return err
		}
		return finished(s, 3)
	}, bridge.Config{})
	r := newRecorder()
	req := httptest.NewRequest("GET", "/v1/completions/cmpl_x/events", nil)
	req.Header.Set("Last-Event-ID", "cmpl_x_3")
	exchange(t, b, r, req)
	if r.code != 204 || body(r) != "" {
		t.Errorf("GET: %d %q", r.code, body(r))
	}
	calls = 0
	r = newRecorder()
	req = post(t.Context())
	req.Header.Set("Last-Event-ID", "cmpl_x_3")
	exchange(t, b, r, req)
	if want := strings.Replace(block3, "id:", "retry: 1000\nid:", 1); r.code != 200 || body(r) != want || calls != 2 {
		t.Errorf("POST: %d %q, want %q", r.code, body(r), want)
	}
}

// A reading that fails late, and before the server has named the completion, says nothing
// about that, and must not look like its end: it may go on, or have ended well.
func TestLateRefusalOfReading(t *testing.T) {
	for name, refusal := range map[string]error{
		"lost":           status.Error(codes.Unavailable, "connection lost"),
		"of the readers": failed(codes.ResourceExhausted, "RATE_LIMITED"),
		"gone":           failed(codes.NotFound, "COMPLETION_NOT_FOUND"),
	} {
		for _, cursor := range []string{"", "cmpl_x_2"} {
			onBoth(t, name+" "+cursor, func(t *testing.T, kind string) {
				synctest.Test(t, func(t *testing.T) {
					b := newBridgeOn(t, kind, func(s eventStream) error {
						return errors.Join(wait(s.Context(), 6*time.Second), refusal)
					}, bridge.Config{})
					r := newRecorder()
					req := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/completions/cmpl_x/events?last_event_id="+cursor, nil)
					exchange(t, b, r, req)
					if r.code != 200 || body(r) != ": hb\n" || !r.aborted {
						t.Errorf("status %d, aborted %v, got %q; want a heartbeat, and a cut", r.code, r.aborted, body(r))
					}
				})
			})
		}
	}
}

// spin keeps the processor busy for up to a while.
func spin(most time.Duration) {
	if most == 0 {
		return
	}
	for start, pause := time.Now(), rand.N(most); time.Since(start) < pause; {
	}
}

// Events that come now with a wait and now without are written by one goroutine and
// by another, and arrive all the same: all, once, in order.
func TestFitfulEvents(t *testing.T) {
	const events = 100_000
	b := newBridgeOn(t, "received", func(s eventStream) error {
		if err := errors.Join(named(s, "cmpl_x"), created(s)); err != nil {
			return err
		}
		for i := range int32(events - 2) {
			if rand.IntN(4) == 0 {
				spin(60 * time.Microsecond)
			}
			if err := delta(s, i+2, "a"); err != nil {
				return err
			}
		}
		return finished(s, events)
	}, bridge.Config{})
	r := newRecorder()
	r.spin = 60 * time.Microsecond
	exchange(t, b, r, post(t.Context()))
	var all strings.Builder
	for _, w := range r.writes {
		_, blocks, _ := strings.Cut(w, " ")
		all.WriteString(blocks)
	}
	messages, next := sse.NewReader(strings.NewReader(all.String()), 1<<20), 1
	for ; ; next++ {
		m, err := messages.Next()
		if err == io.EOF {
			break
		}
		if want := fmt.Sprintf("cmpl_x_%d", next); err != nil || m.ID != want {
			t.Fatalf("got %v, %v, want %s", m, err, want)
		}
	}
	if next-1 != events || r.aborted {
		t.Errorf("%d of %d events, aborted: %v", next-1, events, r.aborted)
	}
	t.Logf("%d events in %d writes", events, len(r.writes))
}
