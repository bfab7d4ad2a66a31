package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// upstream is a scripted OpenAI-compatible server.
type upstream struct {
	*httptest.Server
	calls atomic.Int64 // for completions
	open  atomic.Int64 // of those, the ones under way
	gone  chan time.Time
}

// newUpstream starts an upstream whose completions the script answers. The
// script is to return when r's context is done; gone then gets the time, if
// somebody waits.
func newUpstream(t testing.TB, script http.HandlerFunc) *upstream {
	t.Helper()
	u := &upstream{gone: make(chan time.Time, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"m","object":"model"}]}`)
	})
	mux.HandleFunc("POST /v1/", func(w http.ResponseWriter, r *http.Request) {
		u.calls.Add(1)
		u.open.Add(1)
		defer u.open.Add(-1)
		body, _ := io.ReadAll(r.Body) // or the client's departure is not seen
		r.Body = io.NopCloser(bytes.NewReader(body))
		script(w, r)
		if r.Context().Err() != nil {
			select {
			case u.gone <- time.Now():
			default:
			}
		}
	})
	u.Server = httptest.NewServer(mux)
	t.Cleanup(u.Close)
	return u
}

// env is the environment of a program in front of the upstream.
func (u *upstream) env() map[string]string {
	return map[string]string{"OPENAI_BASE_URL": u.URL + "/v1", "OPENAI_API_KEY": "sk-secret-of-the-tests"}
}

// chunk writes one chunk of a chat completion and flushes it.
func chunk(w http.ResponseWriter, delta, finishReason string) {
	w.Header().Set("Content-Type", "text/event-stream")
	if finishReason != "null" {
		finishReason = `"` + finishReason + `"`
	}
	fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]}\n\n", delta, finishReason)
	w.(http.Flusher).Flush()
}

// say writes a chunk of text.
func say(w http.ResponseWriter, text string) {
	b, err := json.Marshal(map[string]string{"content": text})
	if err != nil {
		panic(err)
	}
	chunk(w, string(b), "null")
}

// The upstream of these tests says everything that no caller may learn, and the
// request something that the log may not.
const (
	key      = "sk-secret-of-the-tests"
	rawWords = "raw words of the upstream"
	internal = "upstream.internal"
	asked    = "what nobody else may read"
	question = `{"model":"m","messages":[{"role":"user","content":"` + asked + `"}]}`
)

// refuse answers with a status and an error in OpenAI's shape.
func refuse(code int, errorCode string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, errorObject(errorCode))
	}
}

func errorObject(code string) string {
	return fmt.Sprintf(`{"error":{"message":"%s: %s at http://%s/v1","type":"t","code":%q}}`, rawWords, key, internal, code)
}

// refuseInWords answers with a status and a body, in which %s stands for all that no caller
// may learn.
func refuseInWords(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, body, rawWords+": "+key+" at http://"+internal+"/v1")
	}
}

// body answers 200 with an event stream that is just this.
func body(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, s)
	}
}

// text streams some text, and then does what follows.
func text(then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		chunk(w, `{"role":"assistant","content":""}`, "null")
		chunk(w, `{"content":"some text"}`, "null")
		then(w, r)
	}
}

// comments keeps the connection busy and says nothing.
func comments(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		_, _ = io.WriteString(w, ": keep-alive\n\n")
		w.(http.Flusher).Flush()
		time.Sleep(time.Millisecond)
	}
}

func silence(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func abort(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// reset resets the connection.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// modelOf is the model that an upstream is asked for.
func modelOf(r *http.Request) string {
	var request struct{ Model string }
	_ = json.NewDecoder(r.Body).Decode(&request)
	return request.Model
}
