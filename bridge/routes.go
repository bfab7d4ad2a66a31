package bridge

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/transcode"
	"github.com/sluice-sse/sluice/bridge/web"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// newMux returns the gateway's mux without routes.
func newMux(log *slog.Logger, exposed func() *exposed) *runtime.ServeMux {
	return runtime.NewServeMux(
		// Plain proto3 JSON. The gateway's default shows unpopulated fields too.
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{}),
		runtime.WithWriteContentLength(),
		// Not with X-HTTP-Method-Override, nor GET by posting a form.
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithIncomingHeaderMatcher(incomingHeader),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithForwardResponseOption(setNoStore),
		runtime.WithMiddlewares(noteRoute),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			writeError(w, r, log, err)
		}),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
			if e := exposed(); e != nil && code != http.StatusBadRequest {
				e.answer(w, asAsked(r), code)
				return
			}
			writeError(w, r, log, routingError(w, r, code))
		}),
	)
}

// incomingHeader lets a request's headers through to the server that mean
// something there. Authorization is not among them because the gateway passes it
// on by itself.
func incomingHeader(key string) (string, bool) {
	switch key = textproto.CanonicalMIMEHeaderKey(key); key {
	case requestIDHeader, "Traceparent", "Tracestate", "Baggage":
		return strings.ToLower(key), true
	}
	return "", false
}

// router has a handler for each request. It is an http.Handler.
type router struct {
	*completions
	openai  *openAI
	exposed *exposed // nil: nothing is
	health  healthpb.HealthClient
}

// register puts the routes on the mux: the generated ones, and ours, in place of some of
// them. The mux asks the handler first that was registered last.
func (rt *router) register() {
	mustRegister(completionv1.RegisterCompletionServiceHandlerClient(context.Background(), rt.mux, rt.client))
	rt.handle("GET "+native.Path+"/{id}/events", rt.orError(rt.events))
	rt.handle("HEAD "+native.Path+"/{id}/events", rt.orError(rt.eventsHead))
	rt.handle("POST "+native.Path+":cancel", rt.orError(rt.cancel))
	rt.openai.register(func(pattern string, h handler) { rt.handle(pattern, rt.orError(h)) })
	rt.handle("GET /healthz", healthz)
	rt.handle("GET /readyz", rt.readyz)
	rt.handle("GET /openapi.json", rt.serveOpenAPI)
	for path, h := range web.Routes() {
		rt.handle("GET "+path, func(w http.ResponseWriter, r *http.Request, _ map[string]string) { h.ServeHTTP(w, r) })
	}
}

func (rt *router) handle(pattern string, h runtime.HandlerFunc) {
	method, path, _ := strings.Cut(pattern, " ")
	mustRegister(rt.mux.HandlePath(method, path, h))
}

// orError answers with the error of a handler that returns one instead of answering.
func (rt *router) orError(h func(http.ResponseWriter, *http.Request, map[string]string) error) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		if err := h(w, r, params); err != nil {
			writeError(w, r, rt.log, err)
		}
	}
}

// mustRegister is for patterns that are constants.
func mustRegister(err error) {
	if err != nil {
		panic(err)
	}
}

// ServeHTTP implements http.Handler.
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Body == nil, r.Method == http.MethodPost, mayStreamResponse(r):
	case rt.exposed != nil && (r.Method == http.MethodPut || r.Method == http.MethodPatch || r.Method == http.MethodDelete):
	default: // a body means nothing
		if err := discardBody(w, r); err != nil {
			writeError(w, r, rt.log, err)
			return
		}
	}
	// What most requests ask for does not go through the mux: there, its body would be
	// decoded so deep in the goroutine's stack that this would have to be moved to a
	// larger one, which takes longer than the routing.
	if r.Method == http.MethodPost {
		create := rt.openai.create[r.URL.Path]
		if r.URL.Path == native.Path {
			create = rt.create
		}
		if create != nil {
			if o := observationOf(w); o != nil {
				o.answer.Route = r.URL.Path
			}
			rt.orError(create)(w, r, nil)
			return
		}
	}
	if rt.exposed.knows(r) {
		rt.exposed.ServeHTTP(w, r)
		return
	}
	if !utf8.ValidString(r.URL.Path) { // an id that no message can hold
		writeError(w, r, rt.log, routingError(w, r, http.StatusNotFound))
		return
	}
	rt.mux.ServeHTTP(w, asGet(r))
}

// asGet returns a HEAD request as the GET that it stands for: net/http, which has the
// request itself, sends no body, and has the length of a short one. A stream is not
// asked for that way.
func asGet(r *http.Request) *http.Request {
	if r.Method != http.MethodHead || strings.HasSuffix(r.URL.Path, "/events") {
		return r
	}
	get := r.WithContext(context.WithValue(r.Context(), headKey{}, r))
	get.Method = http.MethodGet
	if mayStreamResponse(get) {
		u := *r.URL
		u.RawQuery = ""
		get.URL = &u
	}
	return get
}

// headKey is that of the HEAD that a GET stands for in its context.
type headKey struct{}

// asAsked returns the request that a GET stands for, or the request itself.
func asAsked(r *http.Request) *http.Request {
	if head, ok := r.Context().Value(headKey{}).(*http.Request); ok {
		return head
	}
	return r
}

// mayStreamResponse tells whether a request is for a response, which the query or the body
// may make a stream.
func mayStreamResponse(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/responses/")
}

func routingError(w http.ResponseWriter, r *http.Request, code int) error {
	switch code {
	case http.StatusMethodNotAllowed:
		return methodNotAllowed(w, r, methods(r.URL.Path))
	case http.StatusNotFound:
		return failure.Invalid(code, codes.NotFound, "path", "there is no %s here: see /openapi.json for what there is", failure.Clip(r.URL.Path))
	}
	return failure.Invalid(code, codes.InvalidArgument, "path", "the path cannot be read")
}

func methodNotAllowed(w http.ResponseWriter, r *http.Request, allow string) error {
	w.Header().Set("Allow", allow)
	return failure.Invalid(http.StatusMethodNotAllowed, codes.Unimplemented, "method", "%s takes %s, not %s", failure.Clip(r.URL.Path), allow, failure.Clip(r.Method))
}

// methods lists the methods of a path for the Allow header of a 405, which the gateway's
// mux does not know how to tell.
func methods(path string) string {
	if path == native.Path || strings.HasSuffix(path, ":cancel") || strings.HasSuffix(path, "/completions") || strings.HasSuffix(path, "/responses") || strings.HasSuffix(path, "/cancel") {
		return "POST"
	}
	return "GET, HEAD"
}

func healthz(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	_, _ = io.WriteString(w, "ok\n")
}

func (rt *router) readyz(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	if !rt.ready(r.Context()) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "not ready\n")
		return
	}
	said := "ok\n"
	if rt.serving(r.Context(), journalService) == healthpb.HealthCheckResponse_NOT_SERVING {
		said = "ok, but the journal's store is gone\n" // new requests without a key are good
	}
	_, _ = io.WriteString(w, said)
}

// journalService is what a server's health service tells of the store that its journal is
// in, if it has one.
const journalService = "completion.v1.Journal"

// ready says whether the bridge and its server take requests.
func (rt *router) ready(ctx context.Context) bool {
	if rt.draining.Load() {
		return false
	}
	return rt.serving(ctx, "") == healthpb.HealthCheckResponse_SERVING
}

// serving returns what the server's health service tells of a service; of all, without a
// name.
func (rt *router) serving(ctx context.Context, service string) healthpb.HealthCheckResponse_ServingStatus {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := rt.health.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if rt.exposed != nil && service == "" {
		switch status.Code(err) { // it is there, and is no completion server
		case codes.Unimplemented, codes.NotFound, codes.Unauthenticated, codes.PermissionDenied:
			return healthpb.HealthCheckResponse_SERVING
		}
	}
	if err != nil {
		return healthpb.HealthCheckResponse_UNKNOWN
	}
	return resp.GetStatus()
}

// serveOpenAPI describes the API, and what is exposed beside it if that can be had.
func (rt *router) serveOpenAPI(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	description := []byte(completionv1.OpenAPI)
	if rt.exposed != nil {
		if t, err := rt.exposed.methods.Table(transcode.WithAuthorization(r.Context(), r)); err == nil {
			description = t.OpenAPI(completionv1.OpenAPI)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(description)))
	_, _ = w.Write(description)
}
