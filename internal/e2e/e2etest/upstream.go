package e2etest

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

// Upstream is a scripted OpenAI-compatible server.
type Upstream struct {
	*httptest.Server
	Calls atomic.Int64 // for completions
	Open  atomic.Int64 // of those, the ones under way
	Gone  chan time.Time
}

// NewUpstream starts an upstream whose completions the script answers. The
// script is to return when r's context is done; gone then gets the time, if
// somebody waits.
func NewUpstream(t testing.TB, script http.HandlerFunc) *Upstream {
	t.Helper()
	u := &Upstream{Gone: make(chan time.Time, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"m","object":"model"}]}`)
	})
	mux.HandleFunc("POST /v1/", func(w http.ResponseWriter, r *http.Request) {
		u.Calls.Add(1)
		u.Open.Add(1)
		defer u.Open.Add(-1)
		body, _ := io.ReadAll(r.Body) // or the client's departure is not seen
		r.Body = io.NopCloser(bytes.NewReader(body))
		script(w, r)
		if r.Context().Err() != nil {
			select {
			case u.Gone <- time.Now():
			default:
			}
		}
	})
	u.Server = httptest.NewServer(mux)
	t.Cleanup(u.Close)
	return u
}

// Env is the environment of a program in front of the upstream.
func (u *Upstream) Env() map[string]string {
	return map[string]string{"OPENAI_BASE_URL": u.URL + "/v1", "OPENAI_API_KEY": "sk-secret-of-the-tests"}
}

// Chunk writes one chunk of a chat completion and flushes it.
func Chunk(w http.ResponseWriter, delta, finishReason string) {
	w.Header().Set("Content-Type", "text/event-stream")
	if finishReason != "null" {
		finishReason = `"` + finishReason + `"`
	}
	fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]}\n\n", delta, finishReason)
	w.(http.Flusher).Flush()
}

// Say writes a chunk of text.
func Say(w http.ResponseWriter, text string) {
	b, err := json.Marshal(map[string]string{"content": text})
	if err != nil {
		panic(err)
	}
	Chunk(w, string(b), "null")
}

// The upstream of these tests says everything that no caller may learn, and the
// request something that the log may not.
const (
	Key      = "sk-secret-of-the-tests"
	RawWords = "raw words of the upstream"
	Internal = "upstream.internal"
	Asked    = "what nobody else may read"
	Question = `{"model":"m","messages":[{"role":"user","content":"` + Asked + `"}]}`
)

// Refuse answers with a status and an error in OpenAI's shape.
func Refuse(code int, errorCode string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, ErrorObject(errorCode))
	}
}

// ErrorObject is such an error.
func ErrorObject(code string) string {
	return fmt.Sprintf(`{"error":{"message":"%s: %s at http://%s/v1","type":"t","code":%q}}`, RawWords, Key, Internal, code)
}

// RefuseInWords answers with a status and a body, in which %s stands for all that no caller
// may learn.
func RefuseInWords(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, body, RawWords+": "+Key+" at http://"+Internal+"/v1")
	}
}

// Body answers 200 with an event stream that is just this.
func Body(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, s)
	}
}

// Text streams some text, and then does what follows.
func Text(then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		Chunk(w, `{"role":"assistant","content":""}`, "null")
		Chunk(w, `{"content":"some text"}`, "null")
		then(w, r)
	}
}

// Comments keeps the connection busy and says nothing.
func Comments(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		_, _ = io.WriteString(w, ": keep-alive\n\n")
		w.(http.Flusher).Flush()
		time.Sleep(time.Millisecond)
	}
}

// Silence says nothing until the client leaves.
func Silence(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// Abort breaks the answer off.
func Abort(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Reset resets the connection.
func Reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// ModelOf is the model that an upstream is asked for.
func ModelOf(r *http.Request) string {
	var request struct{ Model string }
	_ = json.NewDecoder(r.Body).Decode(&request)
	return request.Model
}
