package bridge_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/internal/inproc/inproctest"
)

const responsesPath = "/openai/v1/responses"

// A response that there is no room for is never one that seems complete: who reads it is told,
// in the stream or by the status. While there is no room, none is begun, and then again.
func TestResponseMemory(t *testing.T) {
	onBoth(t, "of a long response", func(t *testing.T, kind string) {
		var calls, pieces atomic.Int64
		goOn := make(chan struct{})
		b := newBridgeOn(t, kind, func(s eventStream) error {
			calls.Add(1)
			most := int32(pieces.Load())
			err := errors.Join(named(s, "cmpl_x"), created(s))
			for n := range most {
				err = errors.Join(err, delta(s, n+2, strings.Repeat("x", 32<<10)))
			}
			if most == 5 {
				<-goOn
			}
			return errors.Join(err, finished(s, most+2))
		}, bridge.Config{ResponseMemory: 128 << 10})
		s := serveBridge(t, b)
		ask := func(method, path, body string) (*http.Response, string) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			all, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Errorf("%s %s: it is cut: %v", method, path, err)
			}
			return resp, string(all)
		}
		refused := func(resp *http.Response, body, retry string) {
			t.Helper()
			if h := resp.Header; resp.StatusCode != 429 || h.Get("Retry-After") != "1" || h.Get("X-Should-Retry") != retry || !strings.Contains(body, `"code":"overloaded"`) {
				t.Errorf("got %s %v %.300s", resp.Status, h, body)
			}
		}
		const stream, whole = `{"input":"x","stream":true}`, `{"input":"x"}`

		pieces.Store(12)
		resp, body := ask("POST", responsesPath, stream)
		if end := body[strings.LastIndex(body, "event: "):]; resp.StatusCode != 200 || !strings.HasPrefix(end, "event: error\n") || !strings.Contains(end, `"code":"overloaded"`) {
			t.Errorf("got %s, in the end %.300s", resp.Status, end)
		}
		resp, body = ask("GET", responsesPath+"/resp_x?stream=true&starting_after=1000", "")
		refused(resp, body, "true")
		resp, body = ask("POST", responsesPath, whole)
		refused(resp, body, "false") // the upstream is paid: read it by its id
		if resp.Header.Get("Location") != "/v1/completions/cmpl_x" {
			t.Errorf("got %v", resp.Header)
		}

		pieces.Store(5)
		running, err := http.Post("http://"+s.addr+responsesPath, "application/json", strings.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		defer running.Body.Close()
		begin := make([]byte, 5*32<<10) // within the last piece, for there is more than these
		if _, err := io.ReadFull(running.Body, begin); err != nil {
			t.Fatal(err)
		}
		before := calls.Load()
		for _, body := range []string{stream, whole} {
			resp, body := ask("POST", responsesPath, body)
			refused(resp, body, "true")
		}
		if calls.Load() != before {
			t.Error("the server was called")
		}
		close(goOn)
		rest, err := io.ReadAll(running.Body)
		if err != nil || !strings.Contains(string(rest), "event: response.completed\n") || strings.Count(string(rest), strings.Repeat("x", 5*32<<10)) != 4 {
			t.Errorf("got %d bytes, %v", len(rest), err)
		}
		pieces.Store(2)
		if resp, body := ask("POST", responsesPath, whole); resp.StatusCode != 200 || strings.Count(body, strings.Repeat("x", 2*32<<10)) != 1 {
			t.Errorf("got %s %.300s", resp.Status, body)
		}
	})
}

// standing is a server that has one completion.
type standing struct {
	service
	completion *completionv1.Completion
	gets       atomic.Int64
}

func (s *standing) GetCompletion(context.Context, *completionv1.GetCompletionRequest) (*completionv1.Completion, error) {
	s.gets.Add(1)
	return s.completion, nil
}

// A response is read as it stands by its events, once. What else the server knows is asked
// for only if these do not say it, and what is refused to the reader is not taken for the end
// of the response.
func TestResponseRead(t *testing.T) {
	truncated := failed(codes.Unavailable, "UPSTREAM_TRUNCATED")
	header := func(s eventStream, last string) error {
		return s.SendHeader(metadata.Pairs("completion-id", "cmpl_x", "last-sequence", last))
	}
	wait := func(s eventStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	}
	running := &completionv1.Completion{Id: "cmpl_x", State: completionv1.Completion_RUNNING, LastSequence: 2}
	broken := &completionv1.Completion{Id: "cmpl_x", State: completionv1.Completion_FAILED, Error: status.Convert(truncated).Proto(), LastSequence: 3}
	for _, tt := range []struct {
		name       string
		play       func(eventStream) error
		completion *completionv1.Completion
		code       int
		want       string // in the answer
		gets       int64
	}{
		{"ended", func(s eventStream) error {
			return errors.Join(header(s, "3"), created(s), delta(s, 2, "Hi"), finished(s, 3))
		}, nil, 200, `"status":"completed"`, 0},
		{"running", func(s eventStream) error {
			return cmp.Or(errors.Join(header(s, "2"), created(s), delta(s, 2, "Hi")), wait(s))
		}, running, 200, `"status":"in_progress","completed_at":null`, 0},
		{"running on", func(s eventStream) error {
			return cmp.Or(errors.Join(header(s, "2"), created(s), delta(s, 2, "Hi")), delta(s, 3, " there"), wait(s))
		}, running, 200, `"text":"Hi"`, 0},
		{"just begun", func(s eventStream) error { return cmp.Or(header(s, "0"), wait(s)) },
			&completionv1.Completion{Id: "cmpl_x", Model: "m"}, 200, `"model":"m","output":[]`, 1},
		{"of an older server", func(s eventStream) error {
			return cmp.Or(errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, "Hi")), wait(s))
		}, running, 200, `"text":"Hi"`, 1},
		{"failed", func(s eventStream) error {
			return cmp.Or(errors.Join(header(s, "3"), created(s), delta(s, 2, "Hi")), truncated)
		}, broken, 200, `"error":{"code":"upstream_truncated"`, 1},
		{"failed at once", func(s eventStream) error { return cmp.Or(header(s, "1"), truncated) }, broken, 200, `"error":{"code":"upstream_truncated"`, 1},
		{"failed, but not to be read", func(s eventStream) error { return failed(codes.ResourceExhausted, "RATE_LIMITED") }, broken, 429, `"rate_limited"`, 0},
		{"not to be read to the end", func(s eventStream) error {
			return cmp.Or(errors.Join(header(s, "3"), created(s)), failed(codes.Unavailable, "UPSTREAM_UNAVAILABLE"))
		}, running, 503, `"upstream_unavailable"`, 1},
		{"not to be read to the end, but failed", func(s eventStream) error {
			return cmp.Or(errors.Join(header(s, "3"), created(s)), failed(codes.Unavailable, "UPSTREAM_UNAVAILABLE"))
		}, broken, 503, `"upstream_unavailable"`, 1},
		{"cut short", func(s eventStream) error { return errors.Join(header(s, "3"), created(s), delta(s, 2, "Hi")) }, running, 503, `cannot be reached`, 0},
		{"failed, and longer than there is room for", func(s eventStream) error {
			long := strings.Repeat("x", 300<<10)
			return cmp.Or(errors.Join(header(s, "4"), created(s), delta(s, 2, long), delta(s, 3, long)), failed(codes.ResourceExhausted, "OVERLOADED"))
		}, &completionv1.Completion{Id: "cmpl_x", State: completionv1.Completion_FAILED, LastSequence: 4,
			Error: status.Convert(failed(codes.ResourceExhausted, "OVERLOADED")).Proto()}, 429, `"overloaded"`, 0},
		{"cut", func(s eventStream) error {
			return cmp.Or(errors.Join(header(s, "3"), created(s)), status.Error(codes.Unavailable, "EOF"))
		}, running, 503, `cannot be reached`, 0},
	} {
		onBoth(t, tt.name, func(t *testing.T, kind string) {
			server := &standing{service: service{play: tt.play}, completion: tt.completion}
			conn := &inproc.Conn{}
			completionv1.RegisterCompletionServiceServer(conn, server)
			var any grpc.ClientConnInterface = conn
			if kind == "received" {
				any = received{inproctest.Client{Conn: conn}}
			}
			b, err := bridge.New(any, bridge.Config{ResponseMemory: 512 << 10})
			if err != nil {
				t.Fatal(err)
			}
			s := serveBridge(t, b)
			resp, err := http.Get("http://" + s.addr + responsesPath + "/resp_x")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.code || !strings.Contains(string(body), tt.want) || server.gets.Load() != tt.gets {
				t.Errorf("got %s %s, %v after %d other calls", resp.Status, body, err, server.gets.Load())
			}
		})
	}
}

// A stream that ends without an end is no answer.
func TestResponseWithoutAnEnd(t *testing.T) {
	onBoth(t, "of a response", func(t *testing.T, kind string) {
		s := serveBridge(t, newBridgeOn(t, kind, func(s eventStream) error {
			return errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, "Hi"))
		}, bridge.Config{}))
		resp, err := http.Post("http://"+s.addr+responsesPath, "application/json", strings.NewReader(`{"input":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 503 || resp.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("got %s %v", resp.Status, resp.Header)
		}
	})
}

// slowRecorder is one that takes a while for each write.
type slowRecorder struct{ *recorder }

func (r slowRecorder) Write(p []byte) (int, error) {
	n, err := r.recorder.Write(p)
	time.Sleep(20 * time.Second)
	return n, err
}

// A long response may take longer than the write timeout, as long as the client takes some of
// it in that time.
func TestResponseWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBridge(t, func(s eventStream) error {
			err := errors.Join(s.SendHeader(metadata.Pairs("completion-id", "cmpl_x", "last-sequence", "12")), created(s))
			for n := range int32(10) {
				err = errors.Join(err, delta(s, n+2, strings.Repeat("x", 32<<10)))
			}
			return errors.Join(err, finished(s, 12))
		}, bridge.Config{WriteTimeout: 30 * time.Second})
		r := newRecorder()
		b.ServeHTTP(slowRecorder{r}, httptest.NewRequestWithContext(t.Context(), "GET", responsesPath+"/resp_x", nil))
		if took := time.Since(r.start); len(r.pending) < 10*32<<10 || r.header.Get("Content-Length") != strconv.Itoa(len(r.pending)) || took < time.Minute {
			t.Errorf("got %d bytes of %s in %v", len(r.pending), r.header.Get("Content-Length"), took)
		}
	})
}

// A fault while a response is read gives back what was kept of it.
func TestResponseMemoryAfterAFault(t *testing.T) {
	var fault atomic.Bool
	s := serveBridge(t, newBridge(t, func(s eventStream) error {
		err := errors.Join(s.SendHeader(metadata.Pairs("completion-id", "cmpl_x", "last-sequence", "7")), created(s))
		for n := range int32(5) {
			err = errors.Join(err, delta(s, n+2, strings.Repeat("x", 32<<10)))
		}
		if fault.Load() {
			panic("a fault")
		}
		return errors.Join(err, finished(s, 7))
	}, bridge.Config{ResponseMemory: 128 << 10}))
	post := func(body string) int {
		t.Helper()
		resp, err := http.Post("http://"+s.addr+responsesPath, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); err != nil && !fault.Load() {
			t.Error(err)
		}
		return resp.StatusCode
	}
	for _, body := range []string{`{"input":"x"}`, `{"input":[{"type":"item_reference","id":"msg_x_0"}]}`, `{"input":"x","stream":true}`} {
		fault.Store(true)
		post(body)
		fault.Store(false)
		if code := post(`{"input":"x"}`); code != 200 {
			t.Errorf("after %s: %d", body, code)
		}
	}
}
