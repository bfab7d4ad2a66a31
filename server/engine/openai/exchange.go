package openai

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	goopenai "github.com/sashabaranov/go-openai"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

const (
	maxErrorBody  = 64 << 10
	maxModelsBody = 4 << 20

	// What drain reads at most, and for how long.
	maxDrain  = 64 << 10
	drainTime = time.Second
)

// idleTime is how long an idle connection is kept.
//
// A connection that the upstream closes just as it is used again costs the caller
// a 503: net/http does not repeat a POST, and must not, for who pays twice? uvicorn
// and Node close theirs after 5 s.
const idleTime = 4 * time.Second

// newTransport returns the transport that all exchanges with an upstream share. It
// is used without an http.Client: that would follow redirects, and so send the key
// wherever the upstream says.
func newTransport(upstream *url.URL, connectTimeout time.Duration) http.RoundTripper {
	dialer := &net.Dialer{Timeout: connectTimeout}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: upstream})
	international := strings.ContainsFunc(upstream.Host, func(r rune) bool { return r > unicode.MaxASCII })
	if upstream.Scheme == "http" && proxy == nil && err == nil && !international {
		return &plainTransport{dialer: dialer, address: net.JoinHostPort(upstream.Hostname(), cmp.Or(upstream.Port(), "80"))}
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: connectTimeout,
		// There is one upstream. The default keeps two connections to it.
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     idleTime,
		// A request is written once; its connection then waits for tokens.
		WriteBufferSize: 1 << 10,
		// gzip holds back what does not fill a block.
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
		// Without pings a connection whose peer is gone stays in use (golang/go#59690).
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// exchange is one HTTP exchange of go-openai's: it is the HTTPDoer of a client
// that makes just this one. Where go-openai takes a redirect for a success and
// reads an error without a limit, it returns a *refusal.
type exchange struct {
	transport http.RoundTripper
	body      []byte // is sent instead of go-openai's; nil: go-openai's is
	limit     int64  // of the answer's bytes; 0: the answer is a stream, and none

	response *http.Response // the stream; nil until there is one
}

// errTaken tells go-openai that there is no answer for it: it would put a reader
// around the stream, which is not read through it.
var errTaken = errors.New("the answer is taken")

// Do implements goopenai.HTTPDoer.
func (x *exchange) Do(req *http.Request) (*http.Response, error) {
	req.Header.Del("Connection") // go-openai sets keep-alive, which is the transport's to say
	if x.body != nil {
		req.ContentLength = int64(len(x.body))
		// With GetBody the transport can start again on another connection when an
		// idle one turns out to be closed.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.body)), nil }
		req.Body, _ = req.GetBody()
	}
	res, err := x.transport.RoundTrip(req)
	if err != nil {
		return nil, &unreachable{err}
	}
	if err := decodeContent(res); err != nil {
		res.Body.Close()
		return nil, &unreachable{err}
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		defer res.Body.Close()
		// A body that breaks off still says more than none.
		said, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
		return nil, &refusal{asked: askedFor(req), status: res.StatusCode, header: res.Header, body: said}
	}
	if x.limit == 0 {
		x.response, res.Request = res, req
		return nil, errTaken
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, x.limit), res.Body}
	return res, nil
}

// askedFor says in the log what a request asked for: is the base URL right?
func askedFor(req *http.Request) string { return req.Method + " " + req.URL.RequestURI() }

// send has go-openai send a request and returns the answer, whose body the caller
// closes. The error may be any of those that failed understands.
func (e *Engine) send(ctx context.Context, req *completionv1.CompletionRequest, d dialect) (*http.Response, error) {
	body, err := encode(req, d)
	if err != nil {
		return nil, err
	}
	x := &exchange{transport: e.transport, body: body}
	client := e.client(x, req.GetModel())
	// go-openai is shown a request that names no model: it would refuse, by lists of
	// its own, what the models that it knows do not take, and models are called
	// like them that do. That is the upstream's to say.
	if req.Prompt != nil {
		_, err = client.CreateCompletionStream(ctx, goopenai.CompletionRequest{Prompt: ""})
	} else {
		_, err = client.CreateChatCompletionStream(ctx, goopenai.ChatCompletionRequest{})
	}
	if x.response == nil {
		return nil, err
	}
	return x.response, nil
}

// drain reads, in a goroutine of the engine's, what is left of an answer behind
// its [DONE], so that the connection can be used again and nobody waits for that.
// An upstream that then goes on talking, or keeps the answer open, loses its
// connection.
func (e *Engine) drain(body io.ReadCloser, cancel context.CancelFunc) {
	e.drains.Go(func() {
		defer cancel()
		defer body.Close()
		defer time.AfterFunc(drainTime, cancel).Stop()
		_, _ = io.CopyN(io.Discard, body, maxDrain)
	})
}

// unreachable is a request that got no answer.
type unreachable struct{ error }

func (u *unreachable) Unwrap() error { return u.error }

// connectTimedOut tells whether it was the connection that took too long.
func (u *unreachable) connectTimedOut() bool {
	var timeout net.Error
	if !errors.As(u.error, &timeout) || !timeout.Timeout() {
		return false
	}
	// An established connection times out as well, when the peer is gone.
	var op *net.OpError
	return !errors.As(u.error, &op) || op.Op != "read" && op.Op != "write"
}
