package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// What makes the events: an OpenAI-compatible server, and for the hop from gRPC
// to server-sent events a gRPC server. Each token holds its number and the time
// of its sending, between two tildes, which no format on the way has to escape:
// so the client needs to know no format, and sees what is lost.

// pace is what a stream is made of. Its String is the name of the model, or of
// the completion, that is asked for.
type pace struct {
	tokens   int           // after the first, which comes at once
	interval time.Duration // 0: as fast as they can be written
	gated    bool          // whether they, and then the end, wait until the gate opens
}

// String implements fmt.Stringer. It has the form of a completion's id.
func (p pace) String() string {
	return fmt.Sprintf("cmpl_%d-%d-%t", p.tokens, p.interval, p.gated)
}

func parsePace(s string) (p pace, err error) {
	_, err = fmt.Sscanf(strings.ReplaceAll(s, "-", " "), "cmpl_%d %d %t", &p.tokens, &p.interval, &p.gated)
	return p, err
}

// play calls send for each token at its time.
func (p pace) play(ctx context.Context, g *gate, send func(number int) error) error {
	open := g.next() // before the token that says that this stream waits for it
	if err := send(0); err != nil {
		return err
	}
	if err := p.wait(ctx, open); err != nil {
		return err
	}
	open = g.next()
	at := time.Now()
	if p.interval > 0 {
		at = at.Add(rand.N(p.interval)) // else all streams would go in step
	}
	for i := range p.tokens {
		time.Sleep(time.Until(at))
		if err := send(i + 1); err != nil {
			return err
		}
		at = at.Add(p.interval)
	}
	return p.wait(ctx, open)
}

func (p pace) wait(ctx context.Context, open <-chan struct{}) error {
	if !p.gated {
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
func (p pace) flushes(number int) bool {
	return p.interval > 0 || number == 0 || number == p.tokens
}

// appendToken appends a token that is sent now.
func appendToken(dst []byte, number int) []byte {
	dst = append(dst, '~')
	dst = strconv.AppendInt(dst, int64(number), 10)
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, time.Now().UnixNano(), 10)
	return append(dst, '~')
}

// gate holds streams back that are to go on at the same time.
type gate struct {
	mu   sync.Mutex // guards open
	open chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

// next returns what is closed at the next release.
func (g *gate) next() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open = make(chan struct{})
}

// serveUpstream is an OpenAI-compatible server.
func serveUpstream(g *gate, _ []string) error {
	return serveHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			Model string `json:"model"`
		}
		err := json.NewDecoder(r.Body).Decode(&req)
		p, err2 := parsePace(req.Model)
		if err != nil || err2 != nil {
			http.Error(w, fmt.Sprint(err, err2), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		flusher := w.(http.Flusher)
		var buf []byte
		err = p.play(r.Context(), g, func(number int) error {
			buf = append(buf[:0], `data: {"id":"chatcmpl-CXyhTVWMAk6WqG3kS1LtN0pBvQZd8","object":"chat.completion.chunk","created":1762527600,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_560af6e559","choices":[{"index":0,"delta":{"content":" `...)
			buf = appendToken(buf, number)
			buf = append(buf, `"},"logprobs":null,"finish_reason":null}]}`+"\n\n"...)
			_, err := w.Write(buf)
			if p.flushes(number) {
				flusher.Flush()
			}
			return err
		})
		if err == nil {
			fmt.Fprint(w, `data: {"id":"chatcmpl-CXyhTVWMAk6WqG3kS1LtN0pBvQZd8","object":"chat.completion.chunk","created":1762527600,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_560af6e559","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n")
		}
	}))
}

// serveHTTP serves until the process ends.
func serveHTTP(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, h)
}

// serveEvents is a gRPC server with one method, ResumeCompletion. Its events are
// made in wire form, so that it does not hold up the bridge that it feeds.
func serveEvents(g *gate, _ []string) error {
	s := grpc.NewServer(grpc.ForceServerCodecV2(wireCodec{encoding.GetCodecV2("proto")}))
	completionv1.RegisterCompletionServiceServer(s, &eventServer{gate: g})
	return serveGRPC(s)
}

// serveGRPC serves until the process ends.
func serveGRPC(s *grpc.Server) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return s.Serve(l)
}

type eventServer struct {
	completionv1.UnimplementedCompletionServiceServer
	gate *gate
}

// wireEvent is a CompletionEvent in protobuf's wire form.
type wireEvent []byte

// wireCodec sends a *wireEvent as it is.
type wireCodec struct{ encoding.CodecV2 }

func (c wireCodec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*wireEvent); ok {
		return mem.BufferSlice{mem.SliceBuffer(*e)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// The fields of a CompletionEvent.
const (
	fieldSequence = 1
	fieldDelta    = 3
	fieldFinished = 4
	fieldText     = 1 // of a delta
	fieldReason   = 1 // of finished
)

func (s *eventServer) ResumeCompletion(req *completionv1.ResumeCompletionRequest, stream grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
	p, err := parsePace(req.GetId())
	if err != nil {
		return err
	}
	if err := stream.SendHeader(metadata.Pairs("completion-id", req.GetId())); err != nil {
		return err
	}
	sequence := uint64(0)
	send := func(field protowire.Number, message []byte) error {
		sequence++
		// The connection keeps the bytes until it has written them.
		e := make(wireEvent, 0, len(message)+16)
		e = protowire.AppendVarint(protowire.AppendTag(e, fieldSequence, protowire.VarintType), sequence)
		e = protowire.AppendBytes(protowire.AppendTag(e, field, protowire.BytesType), message)
		return stream.SendMsg(&e)
	}
	var text, delta []byte
	err = p.play(stream.Context(), s.gate, func(number int) error {
		text = appendToken(append(text[:0], ' '), number)
		delta = protowire.AppendBytes(protowire.AppendTag(delta[:0], fieldText, protowire.BytesType), text)
		return send(fieldDelta, delta)
	})
	if err != nil {
		return err
	}
	return send(fieldFinished, protowire.AppendVarint(protowire.AppendTag(nil, fieldReason, protowire.VarintType), uint64(completionv1.Finished_STOP)))
}
