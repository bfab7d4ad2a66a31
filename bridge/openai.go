package bridge

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/jsonbody"
	"github.com/sluice-sse/sluice/bridge/openai"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// openAI serves the requests of OpenAI's API, as completions does those of ours.
type openAI struct {
	*completions
	dedupe dedupe
	texts  *openai.Texts
	create map[string]handler // what begins something, by its path
}

// handler answers, or else returns the error to answer with.
type handler = func(w http.ResponseWriter, r *http.Request, params map[string]string) error

func newOpenAI(c *completions, config Config) *openAI {
	o := &openAI{completions: c, dedupe: dedupe{window: config.DedupeWindow, most: maxSeen}}
	o.texts = openai.NewTexts(cmp.Or(config.ResponseMemory, 256<<20))
	chat := func(w http.ResponseWriter, r *http.Request, _ map[string]string) error {
		return o.complete(w, r, openai.DecodeChat, false)
	}
	o.create = map[string]handler{
		openai.Path + "/chat/completions": chat,
		"/v1/chat/completions":            chat,
		openai.Path + "/responses":        o.respond,
		"/v1/responses":                   o.respond,
		openai.Path + "/completions": func(w http.ResponseWriter, r *http.Request, _ map[string]string) error {
			return o.complete(w, r, openai.DecodeText, true)
		},
	}
	return o
}

// register puts the routes on the mux, which asks the one first that comes last. Those
// that begin something are among them for the sake of other methods, which are refused.
func (o *openAI) register(handle func(pattern string, h handler)) {
	for _, base := range []string{openai.Path, "/v1"} {
		handle("GET "+base+"/responses/{id}", o.retrieve)
		handle("POST "+base+"/responses/{id}/cancel", o.cancelResponse)
		handle("GET "+base+"/models/{id=**}", o.model)
		handle("GET "+base+"/models", func(w http.ResponseWriter, r *http.Request, _ map[string]string) error {
			return o.models(w, r, base == "/v1")
		})
	}
	for path, h := range o.create {
		handle("POST "+path, h)
	}
}

// isOpenAI tells whether a path is one of OpenAI's API, whose clients are told of errors
// in its words. Where both APIs have a path, errors are ours.
func isOpenAI(path string) bool {
	if strings.HasPrefix(path, openai.Path+"/") || path == openai.Path {
		return true
	}
	for _, prefix := range []string{"/v1/chat", "/v1/models/", "/v1/responses"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// writeError answers a request with an error in the words of its API.
func writeError(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	observationOf(w).fail(err)
	if isOpenAI(r.URL.Path) {
		openai.WriteError(w, log, err, isRepeatable(r))
		return
	}
	failure.Write(w, log, err)
}

// isRepeatable tells whether a request begins no completion.
func isRepeatable(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || strings.HasSuffix(r.URL.Path, "/cancel")
}

// writeErrorAs answers with an error in OpenAI's words, or in ours.
func writeErrorAs(openAI bool, w http.ResponseWriter, log *slog.Logger, err error) {
	if openAI {
		openai.WriteError(w, log, err, false)
		return
	}
	failure.Write(w, log, err)
}

// complete serves POST /chat/completions, and POST /completions, which is the legacy one.
func (o *openAI) complete(w http.ResponseWriter, r *http.Request, decode decodeFunc, legacy bool) error {
	a, err := o.ask(w, r, decode)
	if err != nil {
		return err
	}
	if a.Stream {
		o.streams.serve(w, r, &streamCall{
			method:  completionv1.CompletionService_StreamCompletion_FullMethodName,
			request: a.Completion,
			encoder: &openai.Encoder{Legacy: legacy, IncludeUsage: a.IncludeUsage, Log: o.log, Keyed: a.keyed, Refused: a.refused},
			done:    a.again.end,
		})
		return nil
	}
	answer := &openai.Answer{Legacy: legacy, Keyed: a.keyed, Log: o.log, Refused: a.refused}
	return o.whole(w, r, a.Completion, a.again.end, func(_ context.Context, w http.ResponseWriter, completion *completionv1.Completion, header metadata.MD, err error) {
		answer.Write(w, completion, header, err)
	})
}

// decodeFunc makes a request of a body.
type decodeFunc = func(context.Context, jsonbody.Decoder, []byte) (*openai.Request, error)

// asked is a request that may be answered. again is to be ended with the response.
type asked struct {
	*openai.Request
	keyed bool         // it has an idempotency key of its own
	again dedupeTicket // a completion that is found again may be tried again, too
}

// refused takes note of what the answer is, in place of a completion.
func (a *asked) refused(refusal openai.Refusal) {
	if refusal.Retry {
		a.again.forget()
	}
}

// ask reads a request that begins something. The body is let go when it returns: the
// response may take hours.
func (o *openAI) ask(w http.ResponseWriter, r *http.Request, decode decodeFunc) (*asked, error) {
	body, release, err := readJSON(w, r)
	if err != nil {
		return nil, err
	}
	defer release()
	req, err := decode(r.Context(), o.decoder, body)
	if err != nil {
		return nil, err
	}
	if req.Completion.IdempotencyKey, err = readIdempotencyKey(r); err != nil {
		return nil, err
	}
	a := &asked{Request: req, keyed: req.Completion.GetIdempotencyKey() != ""}
	if !a.keyed {
		a.again = o.dedupe.begin(r, body)
		a.again.applyTo(req.Completion)
	}
	if o.draining.Load() && !a.keyed && !a.again.found {
		a.again.end()
		return nil, failure.Draining()
	}
	return a, nil
}

// listModels calls the server for what can be asked for.
func (o *openAI) listModels(r *http.Request) (*completionv1.ListModelsResponse, error) {
	ctx, err := runtime.AnnotateContext(r.Context(), o.mux, r, completionv1.CompletionService_ListModels_FullMethodName)
	if err != nil {
		return nil, err
	}
	return o.client.ListModels(ctx, &completionv1.ListModelsRequest{})
}

// models serves GET /models, in both APIs.
func (o *openAI) models(w http.ResponseWriter, r *http.Request, both bool) error {
	list, err := o.listModels(r)
	if err != nil {
		return err
	}
	openai.WriteModels(w, o.log, list, both)
	return nil
}

// model serves GET /models/{id}.
func (o *openAI) model(w http.ResponseWriter, r *http.Request, params map[string]string) error {
	list, err := o.listModels(r)
	if err != nil {
		return err
	}
	for _, m := range list.GetModels() {
		if m.GetId() == params["id"] {
			openai.WriteModel(w, m)
			return nil
		}
	}
	return failure.ModelNotFound(params["id"])
}
