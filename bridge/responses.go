package bridge

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/http1"
	"github.com/sluice-sse/sluice/bridge/jsonbody"
	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/openai"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// respond serves POST /responses.
func (o *openAI) respond(w http.ResponseWriter, r *http.Request, _ map[string]string) error {
	find := func(ctx context.Context, completion string) (*openai.WholeResponse, error) {
		return o.find(ctx, r, completion)
	}
	a, err := o.ask(w, r, func(ctx context.Context, d jsonbody.Decoder, body []byte) (*openai.Request, error) {
		return openai.DecodeResponse(ctx, d, body, find)
	})
	if err != nil {
		return err
	}
	if err := o.texts.Full(); err != nil {
		a.again.end()
		return err
	}
	if a.Stream {
		encoder := &openai.ResponseEncoder{Texts: o.texts, Log: o.log, Keyed: a.keyed, Refused: a.refused}
		o.streams.serve(w, r, &streamCall{
			method:  completionv1.CompletionService_StreamCompletion_FullMethodName,
			request: a.Completion,
			encoder: encoder,
			done: func() {
				encoder.Close()
				a.again.end()
			},
		})
		return nil
	}
	ctx, err := o.context(r.Context(), r, completionv1.CompletionService_StreamCompletion_FullMethodName)
	if err != nil {
		a.again.end()
		return err
	}
	observed := observationOf(w)
	o.streams.respond(w, r, ctx, func(ctx *http1.Context, w http.ResponseWriter) bool {
		defer a.again.end()
		return o.respondWhole(ctx, w, r, a, observed)
	})
	return nil
}

// find returns a response that a request refers to, as it stands.
func (o *openAI) find(ctx context.Context, r *http.Request, completion string) (*openai.WholeResponse, error) {
	whole, found := openai.NewWholeResponse(o.texts), false
	defer func() {
		if !found { // after a panic, too
			whole.Close()
		}
	}()
	if err := o.read(ctx, r, completion, whole); err != nil {
		return nil, err
	}
	found = true
	return whole, nil
}

// respondWhole answers with a response as a whole. It reports whether it has answered.
func (o *openAI) respondWhole(ctx context.Context, w http.ResponseWriter, r *http.Request, a *asked, observed *observation) bool {
	whole := openai.NewWholeResponse(o.texts)
	defer whole.Close()
	id, err := o.begin(ctx, r, a, whole)
	observed.names(id)
	observed.fail(err)
	if ctx.Err() != nil { // the client has left, or the drain is over
		return false
	}
	native.SetLocation(w.Header(), id)
	if err != nil {
		refusal := openai.ResponseRefusal(o.log, err, id != "", a.keyed)
		a.refused(refusal)
		refusal.Write(w)
		return true
	}
	o.write(w, whole)
	return true
}

// begin begins a completion, and reads its response when it has ended, or at
// once, if that is in the background.
func (o *openAI) begin(ctx context.Context, r *http.Request, a *asked, whole *openai.WholeResponse) (id string, err error) {
	f := &follower{event: whole.Add}
	if a.Background {
		f.event = nil
	}
	err = follow(ctx, o.streams.conn, completionv1.CompletionService_StreamCompletion_FullMethodName, a.Completion, f)
	switch {
	case err != nil:
	case a.Background:
		err = o.read(ctx, r, f.id, whole)
	case !whole.Ended():
		err = errNoEnd
	}
	return f.id, err
}

// errNoEnd is logged of a server that ends a stream as none ends.
var errNoEnd = status.Error(codes.Unavailable, "the events end without an end")

// write answers with a response. The client has the write timeout for each bit of it.
func (o *openAI) write(w http.ResponseWriter, whole *openai.WholeResponse) {
	openai.WriteResponse(rollingWriter{w, o.streams.timing.writeTimeout}, whole)
}

// rollingWriter is an http.ResponseWriter each of whose writes has a timeout.
type rollingWriter struct {
	http.ResponseWriter
	timeout time.Duration
}

// Write implements http.ResponseWriter.
func (w rollingWriter) Write(p []byte) (int, error) {
	// Not every ResponseWriter of a test can; a connection's can.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout))
	return w.ResponseWriter.Write(p)
}

// read reads a response as it stands: the events that there are when the server begins to
// read them. By these alone the order of the items is known.
//
// Who asks again and again waits for it: with each reader that leaves, the grace begins anew.
func (o *openAI) read(ctx context.Context, r *http.Request, completion string, whole *openai.WholeResponse) error {
	ctx, err := o.context(ctx, r, completionv1.CompletionService_ResumeCompletion_FullMethodName)
	if err != nil {
		return err
	}
	id, err := o.readUntil(ctx, completion, whole, func(md metadata.MD) int32 {
		last, _ := native.LastSequence(md)
		return last
	})
	if err == nil && whole.Begun() || err != nil && (id == "" || !failure.OfCompletion(err)) || whole.Full() != nil {
		return err
	}
	// It has failed, or there was nothing yet. Or the server is older than this bridge, and has
	// not said how far to read.
	c, errOfGet := o.client.GetCompletion(ctx, &completionv1.GetCompletionRequest{Id: completion})
	if errOfGet != nil {
		return errOfGet
	}
	if last := c.GetLastSequence(); err == nil && last > 0 {
		_, err = o.readUntil(ctx, completion, whole, func(metadata.MD) int32 { return last })
	}
	cause := status.FromProto(c.GetError()).Err()
	if err != nil && (whole.Full() != nil || failure.Reason(err) != failure.Reason(cause)) { // of this reading alone: there is more
		return err
	}
	if !whole.Begun() {
		if err := whole.Begin(c); err != nil {
			return err
		}
	}
	if err != nil {
		whole.Fail(openai.ResponseRefusal(o.log, cause, true, false))
	}
	return nil
}

// readUntil reads events from the first one to the last one that is wanted, given the
// server's header. It returns an id if the server has begun to read the completion.
func (o *openAI) readUntil(ctx context.Context, completion string, whole *openai.WholeResponse, until func(metadata.MD) int32) (id string, err error) {
	f := &follower{event: whole.Add, until: until}
	err = follow(ctx, o.streams.conn, completionv1.CompletionService_ResumeCompletion_FullMethodName, &completionv1.ResumeCompletionRequest{Id: completion}, f)
	if err == nil && !f.left && !whole.Ended() {
		err = errNoEnd
	}
	return f.id, err
}

// context returns the context of a call for a request.
func (o *openAI) context(ctx context.Context, r *http.Request, method string) (context.Context, error) {
	return runtime.AnnotateContext(ctx, o.mux, r, method)
}

// responseID returns the completion that a path names.
func responseID(params map[string]string) (string, error) {
	id, ok := openai.ParseResponseID(params["id"])
	if !ok {
		return "", failure.CompletionNotFound()
	}
	return id, nil
}

// retrieve serves GET /responses/{id}: the response as it stands, or its events.
func (o *openAI) retrieve(w http.ResponseWriter, r *http.Request, params map[string]string) error {
	id, err := responseID(params)
	if err != nil {
		return err
	}
	stream, err := wantsStream(w, r)
	if err != nil {
		return err
	}
	after := r.URL.Query().Get("starting_after")
	if !stream {
		if after != "" {
			return failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "starting_after", "starting_after: is for events, which stream=true asks for")
		}
		whole := openai.NewWholeResponse(o.texts)
		defer whole.Close()
		if err := o.read(r.Context(), r, id, whole); err != nil {
			return err
		}
		native.SetLocation(w.Header(), id)
		o.write(w, whole)
		return nil
	}
	from := 0
	if after != "" {
		n, err := strconv.ParseInt(after, 10, 32)
		if err != nil || n < 0 {
			return failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "starting_after", "starting_after: %q is not the number of an event", failure.Clip(after))
		}
		from = int(n) + 1
	}
	encoder := &openai.ResponseEncoder{From: from, Texts: o.texts, Log: o.log, Keyed: true, Resumes: true}
	o.streams.serve(w, r, &streamCall{
		method:  completionv1.CompletionService_ResumeCompletion_FullMethodName,
		request: &completionv1.ResumeCompletionRequest{Id: id},
		encoder: encoder,
		resumes: true,
		done:    encoder.Close,
	})
	return nil
}

// wantsStream tells whether the events of a response are wanted. The query says so, or the
// body: that is where openai-go has it (GetStreaming of responses/response.go, 3.99).
func wantsStream(w http.ResponseWriter, r *http.Request) (bool, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRetrieveBody))
	if err != nil {
		return false, unread(w, r, err)
	}
	if value := r.URL.Query().Get("stream"); value != "" {
		stream, err := strconv.ParseBool(value)
		if err != nil {
			return false, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "stream", "stream: must be true or false")
		}
		return stream, nil
	}
	var asked struct {
		Stream bool `json:"stream"`
	}
	if len(body) > 0 && json.Unmarshal(body, &asked) != nil {
		return false, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "body", `the body must be none, or {"stream":true}`)
	}
	return asked.Stream, nil
}

// maxRetrieveBody bounds the body of a GET, in bytes.
const maxRetrieveBody = 1 << 10

// cancelResponse serves POST /responses/{id}/cancel.
func (o *openAI) cancelResponse(w http.ResponseWriter, r *http.Request, params map[string]string) error {
	if err := discardBody(w, r); err != nil {
		return err
	}
	id, err := responseID(params)
	if err != nil {
		return err
	}
	ctx, err := o.context(r.Context(), r, completionv1.CompletionService_CancelCompletion_FullMethodName)
	if err != nil {
		return err
	}
	if _, err := o.client.CancelCompletion(ctx, &completionv1.CancelCompletionRequest{Id: id}); err != nil {
		return err
	}
	whole := openai.NewWholeResponse(o.texts)
	defer whole.Close()
	if err := o.read(r.Context(), r, id, whole); err != nil {
		return err
	}
	o.write(w, whole)
	return nil
}
