package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// reader is somebody who reads a completion, or comes back to it.
type reader struct {
	p        *program
	request  string // with an idempotency key
	id       string // the completion's; empty: not known yet
	last     string // the id of the last event that was received; empty: none was
	answered func() // called when the answer begins; nil: nobody waits for it
}

// ways are the ways to come back. All but the GETs also serve to begin. With an
// error, a passage holds what came before it.
var ways = []struct {
	name string
	read func(reader, context.Context) (*passage, error)
}{
	{"POST", reader.post},
	{"gRPC", reader.grpc},
	{"GET", reader.get},
	{"GET with last_event_id", reader.getQuery},
}

// passage is what a reader got in one go, in the same words on both faces.
type passage struct {
	id     string         // the completion's, where it was named
	http   int            // the HTTP status; 0 on gRPC
	events []sse.Message  // all but an error
	status *status.Status // of an error, however it was told; nil: there was none
}

func (r reader) post(ctx context.Context) (*passage, error) {
	return r.overHTTP(ctx, "POST", "/v1/completions", r.request, r.last)
}

func (r reader) get(ctx context.Context) (*passage, error) {
	return r.overHTTP(ctx, "GET", "/v1/completions/"+r.id+"/events", "", r.last)
}

func (r reader) getQuery(ctx context.Context) (*passage, error) {
	return r.overHTTP(ctx, "GET", "/v1/completions/"+r.id+"/events?last_event_id="+url.QueryEscape(r.last), "", "")
}

func (r reader) overHTTP(ctx context.Context, method, path, body, last string) (*passage, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.p.http+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	got := &passage{}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return got, err
	}
	defer resp.Body.Close()
	if r.answered != nil {
		r.answered()
	}
	got.id, got.http = strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/"), resp.StatusCode
	switch resp.StatusCode {
	case http.StatusOK:
		return got, got.blocks(resp.Body)
	case http.StatusNoContent:
		return got, nil
	}
	refusal, err := io.ReadAll(resp.Body)
	if err != nil {
		return got, err
	}
	return got, got.refused(refusal)
}

// blocks reads a stream to its end.
func (got *passage) blocks(stream io.Reader) error {
	r := sse.NewReader(stream, 1<<20)
	for {
		m, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if m.Event == "error" {
			err = got.refused([]byte(m.Data))
		} else {
			got.events = append(got.events, m)
		}
		if err != nil {
			return err
		}
	}
}

func (got *passage) refused(body []byte) error {
	a := &answer{code: got.http}
	err := a.refused(body)
	got.status = a.status
	return err
}

// grpc begins or comes back over a connection of its own.
func (r reader) grpc(ctx context.Context) (*passage, error) {
	got := &passage{}
	conn, err := grpc.NewClient(r.p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return got, err
	}
	defer conn.Close()
	stream, err := r.call(ctx, completionv1.NewCompletionServiceClient(conn))
	if err != nil {
		return got, err
	}
	header, _ := stream.Header()
	got.id = strings.Join(header.Get("completion-id"), ",")
	if r.answered != nil {
		r.answered()
	}
	for {
		event, err := stream.Recv()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			if st := status.Convert(err); len(st.Details()) > 0 { // not one of the connection's
				got.status = st
				return got, nil
			}
			return got, err
		}
		m, err := block(got.id, event)
		if err != nil {
			return got, err
		}
		got.events = append(got.events, m)
	}
}

func (r reader) call(ctx context.Context, client completionv1.CompletionServiceClient) (grpc.ServerStreamingClient[completionv1.CompletionEvent], error) {
	if r.id == "" {
		req := &completionv1.CompletionRequest{}
		if err := protojson.Unmarshal([]byte(r.request), req); err != nil {
			return nil, err
		}
		return client.StreamCompletion(ctx, req)
	}
	var after int32
	if r.last != "" {
		var err error
		if _, after, err = native.ParseID(r.last); err != nil {
			return nil, err
		}
	}
	return client.ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: r.id, AfterSequence: after})
}

// block is an event as it is on the other face.
func block(id string, event *completionv1.CompletionEvent) (sse.Message, error) {
	wire, err := proto.Marshal(event)
	if err != nil {
		return sse.Message{}, err
	}
	b, _, err := native.AppendEvent(nil, id, wire, 0)
	if err != nil {
		return sse.Message{}, err
	}
	return sse.NewReader(bytes.NewReader(b), 1<<20).Next()
}

// soon is a context for what takes no time unless something is wrong.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// cuttingProxy is a TCP proxy that cuts connections.
type cuttingProxy struct {
	addr string
	url  string
	cuts atomic.Int64
}

// cut says when the proxy cuts a connection, and how.
type cut struct {
	after int  // this many bytes have gone to the client, and there are more
	last  bool // or: all has gone but the last chunk of an HTTP/1.1 answer
	how   func(context.Context, *net.TCPConn)
}

func sendReset(_ context.Context, c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

func sendFIN(_ context.Context, c *net.TCPConn) { _ = c.CloseWrite() }

// stall says nothing for a while, and then closes in one of the other ways.
func stall(d time.Duration, then func(context.Context, *net.TCPConn)) func(context.Context, *net.TCPConn) {
	return func(ctx context.Context, c *net.TCPConn) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		then(ctx, c)
	}
}

// newCuttingProxy starts a proxy to an address or a URL. The plan says what becomes of
// the connection with the number n, from 0 on; nil: it is left alone.
func newCuttingProxy(t testing.TB, target string, plan func(n int) *cut) *cuttingProxy {
	t.Helper()
	target = strings.TrimPrefix(target, "http://")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cuttingProxy{addr: l.Addr().String(), url: "http://" + l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			planned := plan(n)
			serving.Go(func() { c.pass(ctx, conn.(*net.TCPConn), target, planned) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		serving.Wait()
	})
	return c
}

// pass serves one connection.
func (c *cuttingProxy) pass(ctx context.Context, client *net.TCPConn, target string, planned *cut) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { _ = client.Close(); _ = server.Close() })()
	var up sync.WaitGroup
	defer up.Wait()
	up.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	if c.down(client, server, planned) {
		c.cuts.Add(1)
		planned.how(ctx, client)
		_ = server.Close()
	}
	_ = client.Close()
}

// lastChunk ends an answer of HTTP/1.1 that has no length.
var lastChunk = []byte("0\r\n\r\n")

// down passes on what comes from the server, and reports whether it is time to cut.
func (c *cuttingProxy) down(client io.Writer, server io.Reader, planned *cut) bool {
	buf := make([]byte, 16<<10)
	for sent := 0; ; {
		n, err := server.Read(buf)
		p, cuts := buf[:n], false
		switch {
		case planned == nil:
		case planned.last:
			p, cuts = bytes.CutSuffix(p, lastChunk)
		case sent+n > planned.after:
			p, cuts = p[:planned.after-sent], true
		}
		sent += len(p)
		if _, err := client.Write(p); err != nil {
			return false
		}
		if cuts || err != nil {
			return cuts
		}
	}
}

var (
	long     = flag.Bool("soak", false, "let TestSoak cut at least 10,000 connections in each layout")
	soakSeed = flag.Uint64("soak-seed", rand.Uint64(), "what TestSoak's random numbers begin with")
)

// soak is many completions with several readers each, whose connections are cut
// at random.
type soak struct {
	completions, tokens int // each of so many

	calls atomic.Int64
	all   chan struct{} // closed when all completions are under way
	stop  func()        // ends it: something is wrong

	readers, lost, repeated, disordered atomic.Int64
	resets, fins, stalls                atomic.Int64
}

// TestSoak checks that whatever is done to their connections, all readers of all
// completions get every event once and in order, for one call upstream each.
func TestSoak(t *testing.T) {
	completions, tokens, least, limit := 200, 30, 750, time.Minute
	switch {
	case *long:
		tokens, least, limit = 400, 10_000, 8*time.Minute
	case underRace:
		completions, least = 50, 200
	}
	t.Logf("-soak-seed=%d", *soakSeed)
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s := &soak{completions: completions, tokens: tokens, all: make(chan struct{}), stop: cancel}
			u := newUpstream(t, s.generate)
			p := start(t, layout, u.env())
			overHTTP, overGRPC := newCuttingProxy(t, p.http, s.plan(1)), newCuttingProxy(t, p.grpc, s.plan(2))
			cut := &program{http: overHTTP.url, grpc: overGRPC.addr}
			began := time.Now()
			s.run(ctx, t, p, cut)
			cuts := overHTTP.cuts.Load() + overGRPC.cuts.Load()
			numbers := fmt.Sprintf("soak, %s: %d completions of %d events, %d readers, %d cuts (%d of HTTP, %d of gRPC; %d resets, %d FINs, %d stalls) in %.1f s: %d lost, %d repeated, %d out of order, %d calls upstream",
				layout, completions, tokens+2, s.readers.Load(), cuts, overHTTP.cuts.Load(), overGRPC.cuts.Load(),
				s.resets.Load(), s.fins.Load(), s.stalls.Load(), time.Since(began).Seconds(),
				s.lost.Load(), s.repeated.Load(), s.disordered.Load(), u.calls.Load())
			t.Log(numbers)
			if *long {
				fmt.Println(numbers)
			}
			if s.lost.Load()+s.repeated.Load()+s.disordered.Load() > 0 || u.calls.Load() != int64(completions) || cuts < int64(least) {
				t.Errorf("want none lost, repeated or out of order, %d calls upstream, and at least %d cuts", completions, least)
			}
		})
	}
}

// generate is the upstream. It begins when all completions are there.
func (s *soak) generate(w http.ResponseWriter, r *http.Request) {
	switch calls := int(s.calls.Add(1)); {
	case calls == s.completions:
		close(s.all)
	case calls > s.completions:
		s.stop()
		return
	}
	model := modelOf(r)
	select {
	case <-s.all:
	case <-r.Context().Done():
		return
	}
	for i := range s.tokens {
		time.Sleep(rand.N(20 * time.Millisecond)) // as models do
		say(w, token(model, i))
	}
	chunk(w, `{}`, "stop")
}

func token(model string, i int) string { return fmt.Sprint(model, ".", i, words[i%len(words)]) }

// plan plans the cuts of a proxy.
func (s *soak) plan(proxy uint64) func(int) *cut {
	rng := rand.New(rand.NewPCG(*soakSeed, proxy))
	return func(int) *cut {
		c := &cut{after: rng.IntN(3000)}
		if rng.IntN(10) == 0 {
			c.after = 0
		}
		count, how := &s.resets, sendReset
		if rng.IntN(2) == 0 {
			count, how = &s.fins, sendFIN
		}
		if rng.IntN(5) == 0 {
			count, how = &s.stalls, stall(time.Duration(20+rng.IntN(180))*time.Millisecond, how)
		}
		c.how = func(ctx context.Context, conn *net.TCPConn) {
			count.Add(1)
			how(ctx, conn)
		}
		return c
	}
}

// run lets the readers of all completions read to the end over connections that
// are cut.
func (s *soak) run(ctx context.Context, t *testing.T, p, cut *program) {
	t.Helper()
	rng := rand.New(rand.NewPCG(*soakSeed, 0))
	var ids sync.Map // by model
	var done sync.WaitGroup
	for i := range s.completions {
		model := fmt.Sprint("m", i)
		for range 1 + rng.IntN(5) {
			r := &soakReader{
				reader: reader{p: cut, request: repeatable(model, model)},
				soak:   s,
				rng:    rand.New(rand.NewPCG(*soakSeed, rng.Uint64())),
				heard:  make([]bool, s.tokens+3),
			}
			s.readers.Add(1)
			done.Go(func() {
				if err := r.readAll(ctx); err != nil {
					t.Errorf("%s, after %q: %v", model, r.last, err)
				} else if r.text.String() != s.text(model) {
					t.Errorf("%s: a reader has the text %q", model, r.text.String())
				}
				if other, ok := ids.LoadOrStore(model, r.id); ok && other != r.id {
					t.Errorf("%s is %s and %s", model, other, r.id)
				}
			})
		}
	}
	done.Wait()
	client := p.client(t)
	for model, id := range ids.Range {
		c, err := client.GetCompletion(ctx, &completionv1.GetCompletionRequest{Id: id.(string)})
		if err != nil || c.GetState() != completionv1.Completion_FINISHED || c.GetText() != s.text(model.(string)) {
			t.Errorf("%s: %v, %v", model, c, err)
		}
	}
}

// text is the whole text of a completion.
func (s *soak) text(model string) string {
	var text strings.Builder
	for i := range s.tokens {
		text.WriteString(token(model, i))
	}
	return text.String()
}

// soakReader is a reader who comes back until he has the terminal event.
type soakReader struct {
	reader
	soak  *soak
	rng   *rand.Rand
	next  int32  // the sequence after the last one
	heard []bool // by sequence
	text  strings.Builder
}

func (r *soakReader) readAll(ctx context.Context) error {
	r.next = 1
	for ctx.Err() == nil {
		way := ways[r.rng.IntN(len(ways))]
		if r.id == "" { // there is nothing to GET yet
			way = ways[r.rng.IntN(2)]
		}
		got, err := way.read(r.reader, ctx)
		if got.id != "" {
			r.id = got.id
		}
		for _, m := range got.events {
			if err := r.take(m); err != nil {
				return err
			}
		}
		switch {
		case got.status != nil:
			return fmt.Errorf("%s: %d %w", way.name, got.http, got.status.Err())
		case ended(got.events):
			return nil
		case err == nil:
			return fmt.Errorf("%s: the stream (%d) ended without a terminal event", way.name, got.http)
		}
	}
	return ctx.Err()
}

func (r *soakReader) take(m sse.Message) error {
	event := &completionv1.CompletionEvent{}
	if err := protojson.Unmarshal([]byte(m.Data), event); err != nil {
		return err
	}
	sequence := event.GetSequence()
	if m.ID != native.FormatID(r.id, sequence) || sequence < 1 || int(sequence) >= len(r.heard) {
		return fmt.Errorf("event %d of %d has the id %q", sequence, len(r.heard)-1, m.ID)
	}
	switch {
	case sequence >= r.next:
		r.soak.lost.Add(int64(sequence - r.next))
		r.next = sequence + 1
	case r.heard[sequence]:
		r.soak.repeated.Add(1)
	default: // it was counted as lost
		r.soak.lost.Add(-1)
		r.soak.disordered.Add(1)
	}
	r.heard[sequence] = true
	r.last = m.ID
	r.text.WriteString(event.GetDelta().GetText())
	return nil
}
