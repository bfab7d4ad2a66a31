package bridge

import (
	"context"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/web"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// newMux returns the gateway's mux with the generated routes, and ours in place
// of some of them: the mux asks the handler first that was registered last.
func (b *Bridge) newMux() *runtime.ServeMux {
	mux := runtime.NewServeMux(
		// Plain proto3 JSON. The gateway's default shows unpopulated fields too.
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{}),
		runtime.WithWriteContentLength(),
		// Not with X-HTTP-Method-Override, nor GET by posting a form.
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithIncomingHeaderMatcher(incomingHeader),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithForwardResponseOption(b.beforeResponse),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			b.writeError(w, err)
		}),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
			b.writeError(w, routingError(w, r, code))
		}),
	)
	must(completionv1.RegisterCompletionServiceHandlerClient(context.Background(), mux, b.client))
	must(mux.HandlePath("GET", completionsPath+"/{id}/events", b.resume))
	must(mux.HandlePath("HEAD", completionsPath+"/{id}/events", b.head))
	must(mux.HandlePath("POST", completionsPath+":cancel", b.cancelByKey))
	must(mux.HandlePath("GET", "/healthz", b.alive))
	must(mux.HandlePath("GET", "/readyz", b.readyz))
	must(mux.HandlePath("GET", "/openapi.json", b.openAPI))
	for path, h := range web.Routes() {
		must(mux.HandlePath("GET", path, func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
			b.setWriteDeadline(w)
			h.ServeHTTP(w, r)
		}))
	}
	return mux
}

// must is for patterns that are constants.
func must(err error) {
	if err != nil {
		panic(err)
	}
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

// beforeResponse is called before each answer that is a message.
func (b *Bridge) beforeResponse(_ context.Context, w http.ResponseWriter, _ proto.Message) error {
	w.Header().Set("Cache-Control", "no-store")
	b.setWriteDeadline(w)
	return nil
}

// methods lists the routes for the Allow header of a 405, which the gateway's
// mux does not know how to tell.
func methods(path string) string {
	switch {
	case path == "/v1/completions", strings.HasSuffix(path, ":cancel"):
		return "POST"
	}
	return "GET, HEAD"
}

func routingError(w http.ResponseWriter, r *http.Request, code int) error {
	switch code {
	case http.StatusMethodNotAllowed:
		allow := methods(r.URL.Path)
		w.Header().Set("Allow", allow)
		return invalid(code, codes.Unimplemented, "method", "%s takes %s, not %s", clip(r.URL.Path), allow, clip(r.Method))
	case http.StatusNotFound:
		return invalid(code, codes.NotFound, "path", "there is no %s here: see /openapi.json for what there is", clip(r.URL.Path))
	}
	return invalid(code, codes.InvalidArgument, "path", "the path cannot be read")
}

// completionID returns the completion that the server's header names, or "".
func completionID(md metadata.MD) string {
	if v := md.Get("completion-id"); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (b *Bridge) alive(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	b.setWriteDeadline(w)
	_, _ = io.WriteString(w, "ok\n")
}

func (b *Bridge) readyz(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	b.setWriteDeadline(w)
	if !b.ready(r.Context()) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "not ready\n")
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

func (b *Bridge) openAPI(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	b.setWriteDeadline(w)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(completionv1.OpenAPI)))
	_, _ = io.WriteString(w, completionv1.OpenAPI)
}
