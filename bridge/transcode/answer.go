package transcode

import (
	"log/slog"
	"net/http"
	"strconv"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"google.golang.org/genproto/googleapis/api/httpbody"
)

const jsonType = "application/json"

// Answer is what a unary method has answered.
type Answer struct {
	Message         []byte // in wire form
	Err             error  // in place of it
	Header, Trailer metadata.MD
}

// Write answers a request for a binding. Trailers are headers, too: a browser reads no
// others.
func (a Answer) Write(w http.ResponseWriter, methods *Methods, b *Binding, log *slog.Logger) {
	h := w.Header()
	setMetadata(h, runtime.MetadataHeaderPrefix, a.Header)
	setMetadata(h, runtime.MetadataTrailerPrefix, a.Trailer)
	if a.Err != nil {
		Notice(methods, a.Err)
		b.Method.WriteError(w, log, a.Err, a.Trailer)
		return
	}
	contentType, body, unknown, err := b.render(a.Message)
	if err != nil || unknown {
		methods.RenewSoon()
	}
	if err != nil {
		log.Warn("read a message of the server", "method", b.Method.Path, "cause", err)
		b.Method.WriteError(w, log, errUnreadable, a.Trailer)
		return
	}
	h.Set("Content-Type", contentType)
	if contentType != jsonType { // a page of the server's is not one of ours
		h.Set("Content-Security-Policy", "sandbox")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body)
}

// render returns what a message becomes: its JSON, or if it is a google.api.HttpBody, what
// that holds.
func (b *Binding) render(wire []byte) (contentType string, body []byte, unknown bool, err error) {
	output := b.Method.desc.Output()
	if raw := (&httpbody.HttpBody{}); output.FullName() == raw.ProtoReflect().Descriptor().FullName() && b.answer == nil {
		err = proto.Unmarshal(wire, raw)
		return raw.GetContentType(), raw.GetData(), false, err
	}
	w := b.Method.table.types.Writer(output)
	if b.answer != nil {
		body, err = w.AppendField(nil, wire, b.answer.Number())
	} else {
		body, err = w.Append(make([]byte, 0, 2*len(wire)+64), wire)
	}
	return jsonType, append(body, '\n'), w.Unknown, err
}
