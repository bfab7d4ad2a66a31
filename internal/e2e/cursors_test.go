package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// terminal is the sequence of the terminal event of the table's completions, and
// head that of the last event of the one that runs.
const terminal, head = 6, 3

// cursorRow is a row of the contract's table: who comes back to what gets which
// answer.
type cursorRow struct {
	name      string
	model     string // what the completion does: see stage
	after     int    // the cursor's sequence
	last      string // the cursor, if it is none of the completion's
	get, post int    // HTTP status; post 0: is not asked
	code      codes.Code
	reason    string
}

var cursors = []cursorRow{
	{name: "running, all of it", model: "runs", after: 0, get: 200, post: 200},
	{name: "running, a part of it", model: "runs", after: 2, get: 200, post: 200},
	{name: "running, nothing to replay", model: "runs", after: head, get: 200, post: 200},
	{name: "ahead of a running one", model: "runs", after: head + 1, get: 409, post: 409, code: codes.Aborted, reason: "CURSOR_AHEAD"},

	{name: "finished, all of it", model: "ends", after: 0, get: 200, post: 200},
	{name: "finished, a part of it", model: "ends", after: 3, get: 200, post: 200},
	{name: "finished, before the terminal event", model: "ends", after: terminal - 1, get: 200, post: 200},
	{name: "finished, at the terminal event", model: "ends", after: terminal, get: 204, post: 200},
	{name: "ahead of a finished one", model: "ends", after: terminal + 1, get: 409, post: 409, code: codes.Aborted, reason: "CURSOR_AHEAD"},
	{name: "far ahead", model: "ends", after: 1<<31 - 1, get: 409, post: 409, code: codes.Aborted, reason: "CURSOR_AHEAD"},

	{name: "failed, all of it", model: "breaks", after: 0, get: 200, post: 200, code: codes.Unavailable, reason: "UPSTREAM_TRUNCATED"},
	{name: "failed, a part of it", model: "breaks", after: 3, get: 200, post: 200, code: codes.Unavailable, reason: "UPSTREAM_TRUNCATED"},
	{name: "failed, before the error", model: "breaks", after: terminal - 1, get: 200, post: 200, code: codes.Unavailable, reason: "UPSTREAM_TRUNCATED"},
	{name: "failed, at the error", model: "breaks", after: terminal, get: 204, post: 200, code: codes.Unavailable, reason: "UPSTREAM_TRUNCATED"},
	{name: "ahead of a failed one", model: "breaks", after: terminal + 1, get: 409, post: 409, code: codes.Aborted, reason: "CURSOR_AHEAD"},
	{name: "refused", model: "refused", after: 0, get: 429, post: 429, code: codes.ResourceExhausted, reason: "UPSTREAM_RATE_LIMITED"},
	{name: "refused, at the error", model: "refused", after: 1, get: 204, post: 200, code: codes.ResourceExhausted, reason: "UPSTREAM_RATE_LIMITED"},

	{name: "expired", model: "expired", after: 3, get: 410, post: 410, code: codes.OutOfRange, reason: "EVENTS_EXPIRED"},
	{name: "expired, from the start", model: "expired", after: 0, get: 410, post: 410, code: codes.OutOfRange, reason: "EVENTS_EXPIRED"},
	{name: "evicted", model: "evicted", after: 3, get: 410, post: 410, code: codes.OutOfRange, reason: "EVENTS_EXPIRED"},
	{name: "evicted, at the terminal event", model: "evicted", after: terminal, get: 410, post: 410, code: codes.OutOfRange, reason: "EVENTS_EXPIRED"},

	{name: "unknown", model: "unknown", after: 3, get: 404, post: 404, code: codes.NotFound, reason: "COMPLETION_NOT_FOUND"},
	{name: "of another completion", model: "ends", last: "cmpl_another_3", get: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "no event's id", model: "ends", last: "3", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "a word", model: "ends", last: "undefined", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "no completion", model: "ends", last: "cmpl__3", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "no sequence", model: "ends", last: "cmpl_x", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "an empty sequence", model: "ends", last: "cmpl_x_", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "a negative sequence", model: "ends", last: "cmpl_x_-1", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "a leading zero", model: "ends", last: "cmpl_x_03", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "not decimal", model: "ends", last: "cmpl_x_0x3", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "more than an int32", model: "ends", last: "cmpl_x_2147483648", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "a path", model: "ends", last: "cmpl_x/../y_3", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "too long", model: "ends", last: "cmpl_" + strings.Repeat("x", 200) + "_3", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
	{name: "two ids", model: "ends", last: "cmpl_x_3, cmpl_x_4", get: 400, post: 400, code: codes.InvalidArgument, reason: "INVALID_REQUEST"},
}

// stage is where the table's completions live.
type stage struct {
	upstream           *e2etest.Upstream
	gate               chan struct{}    // lets the one that runs go on
	usual, brief, tiny *e2etest.Program // as it is; with a short retention; with little memory
}

func newStage(t *testing.T, layout string) *stage {
	t.Helper()
	s := &stage{gate: make(chan struct{})}
	s.upstream = e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		model := e2etest.ModelOf(r)
		if model == "refused" {
			e2etest.Refuse(429, "rate_limit_exceeded")(w, r)
			return
		}
		for i, word := range words[:terminal-2] {
			if model == "runs" && i == head-1 {
				select {
				case <-s.gate:
				case <-r.Context().Done():
					return
				}
			}
			e2etest.Say(w, word)
		}
		if model != "breaks" {
			e2etest.Chunk(w, `{}`, "stop")
		}
	})
	window := "--commit-window=300ms" // so that an answer begins with nothing to replay
	s.usual = e2etest.Start(t, layout, s.upstream.Env(), window)
	s.brief = e2etest.Start(t, layout, s.upstream.Env(), window, "--retention=1s")
	s.tiny = e2etest.Start(t, layout, s.upstream.Env(), window, "--journal-memory=4KiB")
	return s
}

// play brings a completion to where the table wants it. The reader that it
// returns comes from the start.
func (s *stage) play(t *testing.T, model, key string) reader {
	t.Helper()
	r := reader{p: s.usual, request: repeatable(model, key)}
	switch model {
	case "unknown":
		r.id = "cmpl_01ARZ3NDEKTSV4RRFFQ69G5FAV"
		return r
	case "expired":
		r.p = s.brief
	case "evicted":
		r.p = s.tiny
	}
	resp := r.p.Post(t, r.request)
	defer resp.Body.Close()
	r.id = strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/")
	if model == "runs" {
		events := sse.NewReader(resp.Body, 1<<20)
		for range head {
			if _, err := events.Next(); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	n := 0
	switch model {
	case "expired":
		e2etest.Eventually(t, "the completion expires", func() bool { return e2etest.StatusOf(t, r.p.HTTP+"/v1/completions/"+r.id) == 410 })
	case "evicted":
		e2etest.Eventually(t, "the completion is evicted", func() bool {
			n++
			_, _ = io.Copy(io.Discard, r.p.Post(t, repeatable(model, fmt.Sprint(key, n))).Body)
			return e2etest.StatusOf(t, r.p.HTTP+"/v1/completions/"+r.id) == 410
		})
	}
	return r
}

// TestCursors holds both faces against the table.
func TestCursors(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, layout)
			for _, row := range cursors {
				if layout == e2etest.TwoServers && row.model == "evicted" {
					continue // a store keeps what has ended
				}
				t.Run(row.name, func(t *testing.T) {
					r := s.play(t, row.model, row.name)
					if r.last = row.last; r.last == "" {
						r.last = native.FormatID(r.id, int32(row.after))
					}
					calls := s.upstream.Calls.Load()
					got := s.readAll(t, row, r)
					if n := s.upstream.Calls.Load() - calls; n != 0 {
						t.Errorf("coming back made %d calls upstream", n)
					}
					whole, _ := reader{p: r.p, id: r.id}.get(e2etest.ShortContext(t))
					for way, passage := range got {
						row.check(t, way, passage, whole.events)
					}
				})
			}
		})
	}
}

// readAll comes back in all ways at the same time. A completion that runs goes on
// when all have been answered.
func (s *stage) readAll(t *testing.T, row cursorRow, r reader) map[string]*passage {
	t.Helper()
	ctx := e2etest.ShortContext(t)
	var mu sync.Mutex // guards all
	all := map[string]*passage{}
	var answered, done sync.WaitGroup
	for _, way := range ways {
		if way.name == "POST" && row.post == 0 || way.name == "gRPC" && row.last != "" { // which has no such cursors
			continue
		}
		r, begins := r, sync.OnceFunc(answered.Done)
		r.answered = begins
		answered.Add(1)
		done.Go(func() {
			defer begins()
			got, err := way.read(r, ctx)
			if err != nil {
				t.Errorf("%s: %v", way.name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			all[way.name] = got
		})
	}
	answered.Wait()
	if row.model == "runs" {
		select {
		case s.gate <- struct{}{}:
		case <-ctx.Done():
		}
	}
	done.Wait()
	return all
}

// check checks what somebody got by one of the ways. The whole is all events
// that the completion has.
func (row cursorRow) check(t *testing.T, way string, got *passage, whole []sse.Message) {
	t.Helper()
	wantHTTP, wantReason, wantEvents := row.get, row.reason, []sse.Message(nil)
	switch way {
	case "POST":
		wantHTTP = row.post
	case "gRPC":
		wantHTTP = 0
	}
	switch {
	case row.get == http.StatusOK:
		if len(whole) != terminal && row.reason == "" || row.reason != "" && len(whole) != terminal-1 {
			t.Fatalf("there are %d events in all", len(whole))
		}
		wantEvents = whole[row.after:]
	case row.get == http.StatusNoContent && way != "POST":
		wantReason = ""
	case row.get == http.StatusNoContent && row.reason == "":
		wantEvents = whole[terminal-1:]
	}
	gotReason, gotCode := "", row.code
	if got.status != nil {
		gotReason, gotCode = reason(got.status), got.status.Code()
	}
	if got.http != wantHTTP || gotReason != wantReason || gotCode != row.code {
		t.Errorf("%s: got %d, %v, %q; want %d, %v, %q", way, got.http, gotCode, gotReason, wantHTTP, row.code, wantReason)
	}
	if !slices.Equal(got.events, wantEvents) {
		t.Errorf("%s: got the events %q, want %q", way, got.events, wantEvents)
	}
}
