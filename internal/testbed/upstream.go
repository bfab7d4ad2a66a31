package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What makes the tokens. Each holds its number and the time of its sending, between two
// tildes, which no format on the way has to escape: so a client needs to know no format,
// and sees what is lost.

// Pace is what a stream is made of. Its String is the name of the model, or of
// the completion, that is asked for.
type Pace struct {
	Tokens   int           // after the first, which comes at once
	Interval time.Duration // 0: as fast as they can be written
	Gated    bool          // whether they, and then the end, wait until the gate opens

	Recording string // one of Recordings, whose chunks the upstream sends, or AnyRecording; "": a chat of OpenAI's
}

// AnyRecording stands for each of Recordings in turn.
const AnyRecording = "any"

// String implements fmt.Stringer. It has the form of a completion's id.
func (p Pace) String() string {
	s := fmt.Sprintf("cmpl_%d-%d-%t", p.Tokens, p.Interval, p.Gated)
	if p.Recording != "" {
		s += "-" + p.Recording
	}
	return s
}

// ParsePace is the inverse of String.
func ParsePace(s string) (p Pace, err error) {
	fields := strings.SplitN(s, "-", 4)
	if len(fields) == 4 {
		p.Recording = fields[3]
		fields = fields[:3]
	}
	_, err = fmt.Sscanf(strings.Join(fields, " "), "cmpl_%d %d %t", &p.Tokens, &p.Interval, &p.Gated)
	return p, err
}

// Play calls send for each token at its time.
func (p Pace) Play(ctx context.Context, g *Gate, send func(number int) error) error {
	open := g.next() // before the token that says that this stream waits for it
	if err := send(0); err != nil {
		return err
	}
	if err := p.wait(ctx, open); err != nil {
		return err
	}
	open = g.next()
	at := time.Now()
	if p.Interval > 0 {
		at = at.Add(rand.N(p.Interval)) // else all streams would go in step
	}
	for i := range p.Tokens {
		time.Sleep(time.Until(at))
		if err := send(i + 1); err != nil {
			return err
		}
		at = at.Add(p.Interval)
	}
	return p.wait(ctx, open)
}

func (p Pace) wait(ctx context.Context, open <-chan struct{}) error {
	if !p.Gated {
		return nil
	}
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flushes says whether a token is flushed: a server that has the next one ready
// does not.
func (p Pace) flushes(number int) bool {
	return p.Interval > 0 || number == 0 || number == p.Tokens
}

// AppendToken appends a token that is sent now.
func AppendToken(dst []byte, number int) []byte {
	dst = append(dst, '~')
	dst = strconv.AppendInt(dst, int64(number), 10)
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, time.Now().UnixNano(), 10)
	return append(dst, '~')
}

// ParseToken takes apart what AppendToken puts between the tildes.
func ParseToken(b []byte) (number int, sent time.Time, ok bool) {
	first, second, found := bytes.Cut(b, []byte(":"))
	n, ok1 := parseDigits(first)
	ns, ok2 := parseDigits(second)
	return int(n), time.Unix(0, ns), found && ok1 && ok2
}

func parseDigits(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(b) > 0 && len(b) <= 19
}

// Gate holds streams back that are to go on at the same time.
type Gate struct {
	mu   sync.Mutex // guards open
	open chan struct{}
}

func newGate() *Gate { return &Gate{open: make(chan struct{})} }

// next returns what is closed at the next release.
func (g *Gate) next() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *Gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open = make(chan struct{})
}

// ServeUpstream is the role of an OpenAI-compatible server whose models are named after
// their Pace.
func ServeUpstream(g *Gate, _ []string) error {
	var streams atomic.Int64
	return ServeHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			Model string `json:"model"`
		}
		err := json.NewDecoder(r.Body).Decode(&req)
		p, err2 := ParsePace(req.Model)
		if p.Recording == AnyRecording {
			p.Recording = Recordings[int(streams.Add(1))%len(Recordings)]
		}
		stream, err3 := newStream(p)
		if err := errors.Join(err, err2, err3); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		flusher := w.(http.Flusher)
		var buf []byte
		err = p.Play(r.Context(), g, func(number int) error {
			buf = stream.appendToken(buf[:0], number)
			_, err := w.Write(buf)
			if p.flushes(number) {
				flusher.Flush()
			}
			return err
		})
		if err == nil {
			_, _ = w.Write(stream.end())
		}
	}))
}

// stream is what an upstream says: chunks with a token each, and what follows the last.
type stream interface {
	appendToken(dst []byte, number int) []byte
	end() []byte
}

func newStream(p Pace) (stream, error) {
	if p.Recording == "" {
		return chat{}, nil
	}
	r, err := readRecording(p.Recording)
	return &replay{recording: r, tokens: p.Tokens}, err
}

// chat is a stream of OpenAI's without padding: the fastest there is to decode.
type chat struct{}

const chatChunk = `data: {"id":"chatcmpl-CXyhTVWMAk6WqG3kS1LtN0pBvQZd8","object":"chat.completion.chunk","created":1762527600,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_560af6e559","choices":[{"index":0,"delta":{`

func (chat) appendToken(dst []byte, number int) []byte {
	dst = append(dst, chatChunk+`"content":" `...)
	dst = AppendToken(dst, number)
	return append(dst, `"},"logprobs":null,"finish_reason":null}]}`+"\n\n"...)
}

func (chat) end() []byte {
	return []byte(chatChunk + `},"logprobs":null,"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n")
}

// ServeHTTP serves on a free port, which it prints, until the process ends.
func ServeHTTP(h http.Handler) error {
	return Serve(func(l net.Listener) error { return http.Serve(l, h) })
}

// Serve calls serve with a listener on a free port, which it prints.
func Serve(serve func(net.Listener) error) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return serve(l)
}
