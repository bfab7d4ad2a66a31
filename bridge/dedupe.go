package bridge

import (
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"net/http"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// dedupe finds the request that a client of OpenAI's sends again by itself, for which it
// sends no idempotency key: by the body, the path and the credentials. Each request gets
// a key of its own, under which the server knows its completion, and so what comes again
// gets the same one. It is for many goroutines at once.
//
// It knows only what came to this bridge. The server, not the key, sees to it that nobody
// gets another's completion.
type dedupe struct {
	window time.Duration // from the end of the last response; 0: nothing is remembered
	most   int           // requests that are remembered; more are not found again

	mu    sync.Mutex // guards all below
	seen  map[[sha256.Size]byte]*seenRequest
	sweep int // at so many, what is over is forgotten
}

// seenRequest is a request that may come again.
type seenRequest struct {
	key    string
	open   int       // responses to it
	closed time.Time // when the last one ended
}

// maxSeen is how many requests are remembered: some 20 MB.
const maxSeen = 100_000

// retryCountHeader is what OpenAI's clients send with each request: "0" with the first.
const retryCountHeader = "X-Stainless-Retry-Count"

// begin returns the ticket of a request, whose end is to be called when the response has
// ended.
func (d *dedupe) begin(r *http.Request, body []byte) (ticket dedupeTicket) {
	count := r.Header.Get(retryCountHeader)
	if d.window <= 0 || count == "" {
		return dedupeTicket{}
	}
	h := sha256.New()
	for _, part := range []string{r.URL.Path, r.Header.Get("Authorization")} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	h.Write(body)
	ticket = dedupeTicket{dedupe: d}
	h.Sum(ticket.hash[:0])

	d.mu.Lock()
	defer d.mu.Unlock()
	if found := d.seen[ticket.hash]; found != nil && count != "0" && !d.isOver(found) {
		ticket.seenRequest, ticket.found = found, true
	} else if d.hasRoom() {
		ticket.seenRequest = &seenRequest{key: "retry-" + rand.Text()}
		d.seen[ticket.hash] = ticket.seenRequest
	} else {
		return dedupeTicket{}
	}
	ticket.open++
	return ticket
}

func (d *dedupe) isOver(s *seenRequest) bool {
	return s.open == 0 && time.Since(s.closed) >= d.window
}

// hasRoom makes room for one more, if it can. It looks through all only when there are
// twice as many as were left the last time.
func (d *dedupe) hasRoom() bool {
	if d.seen == nil {
		d.seen, d.sweep = map[[sha256.Size]byte]*seenRequest{}, min(1024, d.most)
	}
	if len(d.seen) >= d.sweep {
		maps.DeleteFunc(d.seen, func(_ [sha256.Size]byte, s *seenRequest) bool { return d.isOver(s) })
		d.sweep = min(max(2*len(d.seen), 1024), d.most)
	}
	return len(d.seen) < d.most
}

// dedupeTicket is a response to a request that may come again. The zero value is one to a
// request that is not remembered.
type dedupeTicket struct {
	*seenRequest
	found  bool // it has come before
	dedupe *dedupe
	hash   [sha256.Size]byte
}

// applyTo gives a request its key, and the grace in which it may come again: a client
// that has given up waiting, and will ask again, is not to be told from one that has left.
func (t dedupeTicket) applyTo(req *completionv1.CompletionRequest) {
	if t.seenRequest == nil {
		return
	}
	req.IdempotencyKey = t.key
	if req.GetDisconnectGrace() == nil {
		req.DisconnectGrace = durationpb.New(t.dedupe.window)
	}
}

// end tells that the response has ended.
func (t dedupeTicket) end() {
	if t.seenRequest == nil {
		return
	}
	t.dedupe.mu.Lock()
	defer t.dedupe.mu.Unlock()
	t.open--
	t.closed = time.Now()
}

// forget has the next such request begin anew.
func (t dedupeTicket) forget() {
	if t.seenRequest == nil {
		return
	}
	t.dedupe.mu.Lock()
	defer t.dedupe.mu.Unlock()
	if t.dedupe.seen[t.hash] == t.seenRequest {
		delete(t.dedupe.seen, t.hash)
	}
}
