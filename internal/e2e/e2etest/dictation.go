package e2etest

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"
)

// Dictation is an upstream that says what the test tells it to, when it does.
type Dictation struct {
	*Upstream
	t        *testing.T
	deltas   chan string // each as JSON; "" ends the answer
	Requests chan string // their bodies
}

// NewDictation starts one.
func NewDictation(t *testing.T) *Dictation {
	d := &Dictation{t: t, deltas: make(chan string), Requests: make(chan string, 100)}
	d.Upstream = NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d.Requests <- string(body)
		for {
			select {
			case delta := <-d.deltas:
				if delta == "" {
					Chunk(w, `{}`, "stop")
					_, _ = io.WriteString(w, "data: [DONE]\n\n")
					return
				}
				Chunk(w, delta, "null")
			case <-r.Context().Done():
				return
			}
		}
	})
	return d
}

// Send sends a delta upstream.
func (d *Dictation) Send(delta string) {
	d.t.Helper()
	select {
	case d.deltas <- delta:
	case <-time.After(10 * time.Second):
		d.t.Fatalf("nobody listens to %s", delta)
	}
}

// Say sends words upstream, each in a delta of its own.
func (d *Dictation) Say(words ...string) {
	d.t.Helper()
	for _, word := range words {
		b, err := json.Marshal(word)
		if err != nil {
			d.t.Fatal(err)
		}
		d.Send(`{"content":` + string(b) + `}`)
	}
}

// End ends the answer.
func (d *Dictation) End() { d.t.Helper(); d.Send("") }
