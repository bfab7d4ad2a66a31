package openai

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	goopenai "github.com/sashabaranov/go-openai"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

const (
	maxErrorBody  = 64 << 10 // bytes of an error
	maxModelsBody = 4 << 20  // bytes of the list of models

	maxDrain  = 64 << 10 // bytes that drain reads
	drainTime = time.Second
)

// send sends a request by go-openai and returns the response. The caller closes its
// body. The error is any of those that failureOf knows.
func (e *Engine) send(ctx context.Context, req *completionv1.CompletionRequest, d dialect) (*http.Response, error) {
	body, err := encode(req, d)
	if err != nil {
		return nil, err
	}
	x := &exchange{transport: e.transport, onRequest: e.config.OnRequest, body: body}
	client := e.client(x, req.GetModel())
	// go-openai is not told the model. By lists of its own it would reject parameters
	// that some models do not take, and other models have similar names.
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

// exchange is the HTTPDoer of a go-openai client that makes one request. go-openai
// would take a redirect for a success, and read an error without a limit; exchange
// returns an *upstreamError for both.
type exchange struct {
	transport http.RoundTripper
	onRequest func(*http.Request) // nil: nobody is told
	body      []byte              // replaces the one of go-openai; nil: it does not
	maxBody   int64               // bytes of the response; 0: it is a stream, with no limit

	response *http.Response // the stream; nil until there is one
}

// errStreamKept keeps the stream from go-openai, which would put a buffered reader
// around it.
var errStreamKept = errors.New("the stream is not read by go-openai")

// Do implements goopenai.HTTPDoer.
func (x *exchange) Do(req *http.Request) (*http.Response, error) {
	req.Header.Del("Connection") // go-openai sets keep-alive, which is the transport's to do
	if x.body != nil {
		req.ContentLength = int64(len(x.body))
		// With GetBody, a transport can try another connection if an idle one turns out
		// to be closed.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.body)), nil }
		req.Body, _ = req.GetBody()
	}
	if x.onRequest != nil {
		x.onRequest(req)
	}
	res, err := x.transport.RoundTrip(req)
	if err != nil {
		return nil, &transportError{err}
	}
	if err := decodeContent(res); err != nil {
		res.Body.Close()
		return nil, &transportError{err}
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		defer res.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody)) // a part of it is better than nothing
		return nil, &upstreamError{requestLine: requestLine(req), status: res.StatusCode, header: res.Header, body: body}
	}
	if x.maxBody == 0 {
		x.response, res.Request = res, req
		return nil, errStreamKept
	}
	res.Body = readCloser{io.LimitReader(res.Body, x.maxBody), res.Body}
	return res, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// requestLine is what the log says of a request, so that a wrong base URL is seen.
func requestLine(req *http.Request) string { return req.Method + " " + req.URL.RequestURI() }

// drain reads what is left of an answer behind its [DONE], in a goroutine of the
// engine, so that the connection can be reused and nobody waits for it. The connection
// is closed if the upstream sends too much or takes too long.
func (e *Engine) drain(body io.ReadCloser, cancel context.CancelFunc) {
	e.drains.Go(func() {
		defer cancel()
		defer body.Close()
		defer time.AfterFunc(drainTime, cancel).Stop()
		_, _ = io.CopyN(io.Discard, body, maxDrain)
	})
}

// transportError is the error of a request that got no response.
type transportError struct{ error }

func (t *transportError) Unwrap() error { return t.error }

// isConnectTimeout tells whether it took too long to connect. An established
// connection can time out, too, when the peer is gone.
func (t *transportError) isConnectTimeout() bool {
	var timeout net.Error
	if !errors.As(t.error, &timeout) || !timeout.Timeout() {
		return false
	}
	var op *net.OpError
	return !errors.As(t.error, &op) || op.Op != "read" && op.Op != "write"
}
