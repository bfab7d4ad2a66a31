package bridge

import (
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// cancelByKey serves POST /v1/completions:cancel. The generated handler would do, but
// that it takes any Content-Type, and what stands behind the JSON.
func (b *Bridge) cancelByKey(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	req, err := b.readCancel(w, r)
	if err != nil {
		b.writeError(w, err)
		return
	}
	ctx, err := runtime.AnnotateContext(r.Context(), b.mux, r, completionv1.CompletionService_CancelCompletion_FullMethodName)
	if err != nil {
		b.writeError(w, err)
		return
	}
	c, err := b.client.CancelCompletion(ctx, req)
	if err != nil {
		b.writeError(w, err)
		return
	}
	_, marshaler := runtime.MarshalerForRequest(b.mux, r)
	runtime.ForwardResponseMessage(ctx, b.mux, marshaler, w, r, c, b.beforeResponse)
}

// readCancel reads what is to be cancelled, as strictly as readRequest.
func (b *Bridge) readCancel(w http.ResponseWriter, r *http.Request) (*completionv1.CancelCompletionRequest, error) {
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	req := &completionv1.CancelCompletionRequest{}
	if err := b.decode(r.Context(), body, req, `JSON such as {"idempotencyKey":"…"}`); err != nil {
		return nil, err
	}
	return req, nil
}
