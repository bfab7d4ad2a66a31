package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/descriptors"
	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/jsonbody"
	"github.com/sluice-sse/sluice/bridge/transcode"
)

// maxMessage is the largest message in bytes that is taken of a method that is exposed.
const maxMessage = 64 << 20

// exposed serves the methods of the server that are exposed, whatever they are: see package
// transcode.
type exposed struct {
	methods   *transcode.Methods
	conn      grpc.ClientConnInterface
	streams   *streams
	forwarded []string // the names of the headers that go on, beside those that always do
	decoder   jsonbody.Decoder
	draining  *atomic.Bool
	log       *slog.Logger
}

// maxForwarded is how many bytes of those headers go on, fieldOverhead beside each value
// included: a server would break off a call with more, as boundHeader says.
const maxForwarded = 16 << 10

// newExposed returns what serves the methods that a Config exposes, or nil if it exposes
// none. It is to be closed.
func newExposed(config Config, own *completions) (*exposed, error) {
	exposure, err := transcode.NewExposure(config.Expose)
	if err != nil || !exposure.Any() {
		return nil, err
	}
	forwarded, err := transcode.ForwardedHeaders(config.ForwardHeaders)
	if err != nil {
		return nil, err
	}
	streams := *own.streams
	streams.mux = runtime.NewServeMux(runtime.WithIncomingHeaderMatcher(func(key string) (string, bool) {
		if slices.Contains(forwarded, http.CanonicalHeaderKey(key)) {
			return strings.ToLower(key), true
		}
		return incomingHeader(key)
	}))
	var source descriptors.Source = descriptors.Reflection{Conn: streams.conn}
	if config.Descriptors != "" {
		source = descriptors.File(config.Descriptors)
		if _, err := source.Load(context.Background(), nil, true); err != nil {
			return nil, fmt.Errorf("load descriptors: %w", err)
		}
	}
	return &exposed{
		methods:   transcode.NewMethods(source, exposure, own.log),
		conn:      streams.conn,
		streams:   &streams,
		forwarded: forwarded,
		decoder:   own.decoder,
		draining:  own.draining,
		log:       own.log,
	}, nil
}

// close lets go of what newExposed has begun.
func (e *exposed) close() {
	if e != nil {
		e.methods.Close()
	}
}

// knows tells whether a request is for a method by its own path, as far as is known.
func (e *exposed) knows(r *http.Request) bool {
	if e == nil || r.Method != http.MethodPost {
		return false
	}
	t := e.methods.Known()
	return t != nil && t.Has(transcode.Path(r))
}

// ServeHTTP answers a request for a method by its own path.
func (e *exposed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.answer(w, r, http.StatusNotFound)
}

// answer answers a request that no route of our own is for: without any, its status were
// otherwise, which is that of a path we do not have, or have for other HTTP methods.
func (e *exposed) answer(w http.ResponseWriter, r *http.Request, otherwise int) {
	if err := e.serve(w, r, otherwise); err != nil {
		observationOf(w).fail(err)
		transcode.WriteError(w, e.log, err)
	}
}

// serve answers, or else returns the error to answer with.
func (e *exposed) serve(w http.ResponseWriter, r *http.Request, otherwise int) error {
	ctx := transcode.WithAuthorization(r.Context(), r)
	t, err := e.methods.Table(ctx)
	if err != nil {
		return err
	}
	b, params, err := t.Find(r)
	if b == nil && err == nil {
		if r.Method == http.MethodPost && e.methods.MayHave(transcode.Path(r)) { // it may be new
			t = e.methods.Renew(ctx, t)
			b, params, err = t.Find(r)
		} else {
			e.methods.RenewIfOlder(ctx, t)
		}
	}
	if err != nil {
		return routingError(w, r, http.StatusBadRequest)
	}
	if b == nil {
		allow := t.Allowed(r)
		if allow == "" {
			return routingError(w, r, otherwise)
		}
		if own := methods(r.URL.Path); otherwise == http.StatusMethodNotAllowed && own != allow {
			allow = own + ", " + allow
		}
		return methodNotAllowed(w, r, allow)
	}
	if o := observationOf(w); o != nil {
		o.answer.Route, o.answer.Method = b.Pattern, b.Method.Path
	}
	return e.call(w, r, b, params)
}

// call calls a method.
func (e *exposed) call(w http.ResponseWriter, r *http.Request, b *transcode.Binding, params map[string]string) error {
	if !b.Method.Supported {
		return failure.Invalid(http.StatusNotImplemented, codes.Unimplemented, "method",
			"%s takes a stream of messages, and can only be called over gRPC", b.Method.Path)
	}
	if accept := strings.Join(r.Header.Values("Accept"), ","); b.Method.Streams && accept != "" && quality(accept, eventStream).q == 0 {
		return failure.Invalid(http.StatusNotAcceptable, codes.InvalidArgument, "Accept", "accept %s: what %s answers has no other form", eventStream, b.Method.Path)
	}
	if err := e.checkForwarded(r.Header); err != nil {
		return err
	}
	timeout, err := transcode.Timeout(grpcTimeoutOf(w))
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead && b.Method.Streams { // nobody would read the stream
		transcode.NewEncoder(e.methods, b, e.log).SetHeader(w.Header(), nil)
		w.WriteHeader(http.StatusOK)
		return nil
	}
	request, b, err := e.request(w, r, b, params)
	if err != nil {
		return err
	}
	if !b.Method.Streams {
		return e.unary(w, r, b, request, timeout)
	}
	if e.draining.Load() {
		return failure.Stopping()
	}
	e.streams.serve(w, r, &streamCall{
		method:  b.Method.Path,
		request: request,
		encoder: transcode.NewEncoder(e.methods, b, e.log),
		timeout: timeout,
		options: []grpc.CallOption{grpc.MaxCallRecvMsgSize(maxMessage)},
	})
	return nil
}

// checkForwarded refuses headers that do not go on as they are: without one, the server might
// take the request for another's.
func (e *exposed) checkForwarded(h http.Header) error {
	size := 0
	for _, name := range e.forwarded {
		for _, value := range h[name] {
			size += len(name) + len(value) + fieldOverhead
			if !strings.HasSuffix(name, "-Bin") && strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
				return failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, name, "the header %s goes to the server, and can only have the printable characters of ASCII", name)
			}
		}
	}
	if size > maxForwarded {
		return failure.Invalid(http.StatusRequestHeaderFieldsTooLarge, codes.InvalidArgument, "headers", "the headers that go to the server must have at most %d bytes", maxForwarded)
	}
	return nil
}

// request makes a method's request of an HTTP request. What is wrong with it may be that the
// server is newer than what is known of it: then it is tried once more, with the binding as
// it is now.
func (e *exposed) request(w http.ResponseWriter, r *http.Request, b *transcode.Binding, params map[string]string) (proto.Message, *transcode.Binding, error) {
	var body []byte
	if !b.TakesBody() {
		if err := discardBody(w, r); err != nil {
			return nil, nil, err
		}
	} else {
		err := checkContentType(r.Header)
		if err != nil {
			return nil, nil, err
		}
		var release func()
		if body, release, err = readWhole(w, r); err != nil {
			return nil, nil, err
		}
		defer release()
	}
	request, err := b.Request(r.Context(), e.decoder, body, params, r.URL.RawQuery)
	if err == nil {
		return request, b, nil
	}
	if newer := e.methods.RenewBinding(transcode.WithAuthorization(r.Context(), r), b); newer != b {
		request, err = newer.Request(r.Context(), e.decoder, body, params, r.URL.RawQuery)
		b = newer
	}
	return request, b, err
}

// unary calls a method that answers with one message.
func (e *exposed) unary(w http.ResponseWriter, r *http.Request, b *transcode.Binding, request proto.Message, timeout time.Duration) error {
	ctx, err := runtime.AnnotateContext(r.Context(), e.streams.mux, r, b.Method.Path)
	if err != nil { // a binary header that is none
		return err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var answer transcode.Answer
	answer.Err = e.conn.Invoke(ctx, b.Method.Path, request, (*wireMessage)(&answer.Message), grpc.ForceCodecV2(newCodec()),
		grpc.Header(&answer.Header), grpc.Trailer(&answer.Trailer), grpc.MaxCallRecvMsgSize(maxMessage))
	observationOf(w).fail(answer.Err)
	answer.Write(w, e.methods, b, e.log)
	return nil
}
