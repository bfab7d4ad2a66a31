package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// cutUpstream says the same in each completion, but the last of it only when that is let go.
type cutUpstream struct {
	*e2etest.Upstream
	mu   sync.Mutex            // guards gate
	gate map[int]chan struct{} // by the input, a number; closed: the rest may be said
}

func newCutUpstream(t *testing.T) *cutUpstream {
	u := &cutUpstream{gate: map[int]chan struct{}{}}
	u.Upstream = e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		var req sceneRequest
		var input string
		_ = json.NewDecoder(r.Body).Decode(&req)
		_ = json.Unmarshal(req.Messages[0].Content, &input)
		at, _ := strconv.Atoi(input)
		e2etest.Chunk(w, `{"reasoning_content":"Hm"}`, "null")
		e2etest.Say(w, "Hällo,")
		select {
		case <-u.gateOf(at):
		case <-r.Context().Done():
			return
		}
		e2etest.Say(w, " again")
		endScene(w, "stop")
	})
	return u
}

func (u *cutUpstream) gateOf(at int) chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gate[at] == nil {
		u.gate[at] = make(chan struct{})
	}
	return u.gate[at]
}

// letGo has the upstream say the rest.
func (u *cutUpstream) letGo(at int) {
	gate := u.gateOf(at)
	u.mu.Lock()
	defer u.mu.Unlock()
	select {
	case <-gate:
	default:
		close(gate)
	}
}

// cutBody is the body of an answer that is cut at a byte. It tells when all has been read
// that the upstream says by itself.
type cutBody struct {
	io.ReadCloser
	left    int
	seen    []byte
	reached func()
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errors.New("cut")
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	if b.seen = append(b.seen, p[:n]...); b.reached != nil && bytes.Contains(b.seen, []byte(`"delta":"Hällo,","logprobs":[]}`+"\n\n")) {
		b.reached()
		b.reached = nil
	}
	return n, err
}

// newCutter stands between a client and a bridge. It cuts the first answer for each of the
// bytes that clients name in a header, and calls reached, if that comes first, where the
// upstream waits. To those that come back, it gives all.
func newCutter(t *testing.T, u *cutUpstream, bridge string, reached func(at int)) (base string) {
	target, err := url.Parse(bridge)
	if err != nil {
		t.Fatal(err)
	}
	var had sync.Map
	quiet := log.New(io.Discard, "", 0)
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{DisableKeepAlives: true},
		ErrorLog:  quiet,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			// Behind the last byte of a body, net/http's Transport looks for its end. If the
			// answer has begun by then, net/http's Server has closed the body, and the Transport
			// cuts the answer for that, as a busy machine shows (golang/go#40747).
			if body, err := io.ReadAll(r.In.Body); err == nil {
				r.Out.Body = io.NopCloser(bytes.NewReader(body))
			}
			if at, err := strconv.Atoi(r.In.Header.Get("X-Cut")); err == nil {
				if _, again := had.Load(at); again {
					u.letGo(at)
				}
			}
		},
		// The bridge may be gone: what the client gets then is no answer either.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ModifyResponse: func(resp *http.Response) error {
			at, err := strconv.Atoi(resp.Request.Header.Get("X-Cut"))
			if _, again := had.LoadOrStore(at, true); again {
				return err
			}
			resp.Body = &cutBody{ReadCloser: resp.Body, left: at, reached: func() { reached(at) }}
			return err
		},
	}
	s := httptest.NewUnstartedServer(proxy)
	s.Config.ErrorLog = quiet
	s.Start()
	t.Cleanup(s.Close)
	return s.URL + "/openai/v1"
}

// cutResult is what testdata/openai/cut.js tells.
type cutResult struct {
	Cases, Cut, Asked, Resumed int
	Mistake                    *string
}

// readCut has the official client read a response for each cut from one to another.
func readCut(t *testing.T, node, base string, from, to, step, lanes int) (r cutResult) {
	t.Helper()
	config, err := json.Marshal(map[string]any{"url": base, "from": from, "to": to, "step": step, "lanes": lanes})
	if err != nil {
		t.Fatal(err)
	}
	runOpenAINode(t, node, &r, "cut.js", string(config))
	if r.Mistake != nil {
		t.Fatal(*r.Mistake)
	}
	return r
}

var everyByte = flag.Bool("soak", false, "have TestResponsesCutWhileTheyRun cut at each byte")

// TestResponsesCutWhileTheyRun has the official client read responses whose streams are cut
// while the upstream has not said all: with -soak at each byte, and else at every few.
// With starting_after it gets the same events as uncut, for one call upstream.
func TestResponsesCutWhileTheyRun(t *testing.T) {
	t.Parallel() // it waits for most of its time
	node, _ := e2etest.NodeWith(t, programs)
	u := newCutUpstream(t)
	p := e2etest.Start(t, "two processes", u.Env())
	u.letGo(0)
	resp := p.Send(t.Context(), t, "POST", "/openai/v1/responses", `{"model":"m","input":"0","stream":true}`, "Content-Type", "application/json")
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s %s: %v", resp.Status, raw, err)
	}
	step := 17
	if *everyByte {
		step = 1
	}
	r := readCut(t, node, newCutter(t, u, p.HTTP, u.letGo), 1, len(raw)+1, step, 16)
	t.Logf("%d bytes: %+v, %d calls upstream", len(raw), r, u.Calls.Load())
	// At the last byte, the client may have left before the cut.
	if want := (len(raw) + step - 1) / step; r.Cases != want || r.Cut < want-1 || u.Calls.Load() != int64(want+2) {
		t.Errorf("%d bytes: %+v, %d calls upstream", len(raw), r, u.Calls.Load())
	}
}

// TestResponsesOutliveTheirBridge kills the bridge again and again, while the official
// client reads a response by it, and starts it where it was.
func TestResponsesOutliveTheirBridge(t *testing.T) {
	const times, first = 10, 1 << 20 // so far no stream goes
	node, _ := e2etest.NodeWith(t, programs)
	u := newCutUpstream(t)
	server := testbed.Start(t, "sluice server --grpc=127.0.0.1:0 --openai-base-url="+u.URL+"/v1")
	t.Cleanup(server.Stop)
	bridge := testbed.Start(t, "sluice bridge --http=127.0.0.1:0 --server="+server.Addrs[0])
	t.Cleanup(func() { bridge.Stop() })
	killed := 0
	r := readCut(t, node, newCutter(t, u, "http://"+bridge.Addrs[0], func(at int) {
		if at == first+times { // the one that the others are held against
			u.letGo(at)
			return
		}
		killed++
		bridge.Signal(syscall.SIGKILL)
		bridge.Wait()
		bridge = testbed.Start(t, "sluice bridge --http="+bridge.Addrs[0]+" --server="+server.Addrs[0])
	}), first, first+times, 1, 1)
	t.Logf("%+v, %d calls upstream, %d bridges killed", r, u.Calls.Load(), killed)
	if r.Cases != times || r.Resumed != times || u.Calls.Load() != times+1 || killed != times {
		t.Errorf("%+v, %d calls upstream, %d bridges killed", r, u.Calls.Load(), killed)
	}
}
