package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// maxBlock is the largest block of a stream in bytes.
const maxBlock = 16 << 20

// call calls a method through the bridge. The error says what is not as the contract has
// it; errors of the call itself are in the result.
func (b *bridge) call(ctx context.Context, request *compatRequest) (*result, error) {
	if len(request.RequestMessages) != 1 {
		return nil, fmt.Errorf("%d messages, want 1", len(request.RequestMessages))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := newRequest(ctx, b.url, request)
	if err != nil {
		return nil, err
	}
	r := &result{received: func(int) {}}
	if request.Cancel == nil {
		return r, r.read(b.client.Do(req))
	}
	left := b.leave(ctx, cancel, request, r)
	err = r.read(b.client.Do(req))
	if ctx.Err() == nil { // it has ended before
		return r, err
	}
	r.Error = &callError{Code: codeName("CANCELLED"), Message: fmt.Sprint(err)} // as clients of gRPC are told
	return r, <-left
}

// leave has the client leave when it should. What it returns tells whether the bridge has
// then cancelled the call.
func (b *bridge) leave(ctx context.Context, cancel func(), request *compatRequest, r *result) <-chan error {
	left := make(chan error, 1)
	r.received = func(n int) {
		if n == request.Cancel.AfterNumResponses {
			cancel() // at once, as what follows is not to be read
		}
	}
	go func() {
		if b.relay != nil {
			if err := b.relay.call(request.TestName).opened.wait(errNotOpened); err != nil {
				cancel()
				left <- err
				return
			}
		}
		if request.Cancel.AfterNumResponses == 0 {
			time.Sleep(time.Duration(request.Cancel.AfterCloseSendMS) * time.Millisecond)
			cancel()
		}
		<-ctx.Done()
		if b.relay != nil {
			left <- b.relay.call(request.TestName).reset.wait(errNotReset)
		} else {
			left <- nil
		}
	}()
	return left
}

// read reads a response.
func (r *result) read(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	r.ResponseHeaders = metadata(resp.Header, runtime.MetadataHeaderPrefix)
	r.ResponseTrailers = metadata(resp.Header, runtime.MetadataTrailerPrefix)
	switch mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); {
	case mediaType == sse.MediaType && resp.StatusCode == http.StatusOK:
		return r.readStream(resp.Request.Context(), resp.Body)
	case mediaType == "application/json":
		return r.readWhole(resp)
	default:
		return fmt.Errorf("%s of type %q", resp.Status, mediaType)
	}
}

// newRequest makes the HTTP request: the message's JSON, the metadata as headers, the
// timeout as gRPC has it.
func newRequest(ctx context.Context, url string, request *compatRequest) (*http.Request, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(request.RequestMessages[0], &members); err != nil {
		return nil, err
	}
	delete(members, "@type") // that is the Any's, not the message's
	body, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/"+request.Service+"/"+request.Method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for _, h := range request.RequestHeaders {
		for _, value := range h.Value {
			req.Header.Add(h.Name, value)
		}
	}
	req.Header.Set("Content-Type", "application/json")
	if request.TimeoutMS != nil {
		req.Header.Set("Grpc-Timeout", fmt.Sprintf("%dm", *request.TimeoutMS))
	}
	return req, nil
}

// metadata returns the headers that stand for metadata.
func metadata(h http.Header, prefix string) []header {
	var all []header
	for name, values := range h {
		if name, ok := strings.CutPrefix(name, prefix); ok {
			all = append(all, header{name, values})
		}
	}
	return all
}

// readStream reads server-sent events: messages, and one that says how it ended.
// A client that has left reads no more.
func (r *result) readStream(ctx context.Context, body io.Reader) error {
	events := sse.NewReader(body, maxBlock)
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		event, err := events.Next()
		if err == io.EOF {
			return errors.New("the stream was cut: it has no event that ends it")
		}
		if err != nil {
			return err
		}
		switch event.Event {
		case "message":
			if err := r.addPayload([]byte(event.Data)); err != nil {
				return err
			}
			r.received(len(r.Payloads))
			continue
		case "finished", "error":
			err = r.readEnd(event.Event, []byte(event.Data))
		default:
			err = fmt.Errorf("an event %q", event.Event)
		}
		if err != nil {
			return err
		}
		if event, err := events.Next(); err != io.EOF {
			return fmt.Errorf("after the end: %v, %v", event, err)
		}
		return nil
	}
}

// readEnd reads the last event of a stream.
func (r *result) readEnd(event string, data []byte) error {
	var end struct {
		Error    *statusJSON
		Trailers map[string][]string
	}
	if err := json.Unmarshal(data, &end); err != nil {
		return err
	}
	if (end.Error != nil) != (event == "error") {
		return fmt.Errorf("event %s: %s", event, data)
	}
	for name, values := range end.Trailers {
		r.ResponseTrailers = append(r.ResponseTrailers, header{name, values})
	}
	return r.setError(end.Error)
}

// readWhole reads the answer of a unary method, or the error that a method has answered
// with at once.
func (r *result) readWhole(resp *http.Response) error {
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK {
		return r.addPayload(b)
	}
	var body struct{ Error *statusJSON }
	if err := json.Unmarshal(b, &body); err != nil {
		return err
	}
	if body.Error == nil || body.Error.Code != resp.StatusCode {
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	return r.setError(body.Error)
}

// addPayload adds what a message of any method of the service has in it, which may be
// nothing.
func (r *result) addPayload(message []byte) error {
	var answer struct{ Payload json.RawMessage }
	if err := json.Unmarshal(message, &answer); err != nil {
		return fmt.Errorf("message %.100q: %w", message, err)
	}
	if answer.Payload == nil {
		answer.Payload = json.RawMessage("{}")
	}
	r.Payloads = append(r.Payloads, answer.Payload)
	return nil
}

// statusJSON is an error as the bridge writes it.
type statusJSON struct {
	Code    int    // of HTTP
	Status  string // gRPC's name for its code
	Message string
	Details []json.RawMessage
}

func (r *result) setError(s *statusJSON) error {
	if s == nil {
		return nil
	}
	if _, err := strconv.Atoi(s.Status); err == nil { // the number of a code that gRPC does not have
		s.Status = "UNKNOWN"
	}
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(`"` + s.Status + `"`)); err != nil {
		return err
	}
	if want := runtime.HTTPStatusFromCode(code); s.Code != want {
		return fmt.Errorf("%s has the HTTP status %d, want %d", s.Status, s.Code, want)
	}
	r.Error = &callError{Code: codeName(s.Status), Message: s.Message, Details: s.Details}
	return nil
}

// codeName returns the runner's name for a code of gRPC's.
func codeName(status string) string {
	return "CODE_" + strings.Replace(status, "CANCELLED", "CANCELED", 1)
}
