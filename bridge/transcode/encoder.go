package transcode

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/bridge/wirejson"
)

// Encoder makes one response of the messages of a server-streaming method. It implements
// bridge.Encoder.
type Encoder struct {
	methods *Methods
	log     *slog.Logger
	binding *Binding
	writer  *wirejson.Writer

	header, trailer metadata.MD
	unreadable      error // why a message could not be written
}

// NewEncoder returns an encoder for a call.
func NewEncoder(methods *Methods, b *Binding, log *slog.Logger) *Encoder {
	e := &Encoder{methods: methods, log: log}
	e.use(b)
	return e
}

func (e *Encoder) use(b *Binding) {
	e.binding, e.writer = b, b.Method.table.types.Writer(b.Method.desc.Output())
}

// SetHeader implements bridge.Encoder.
func (e *Encoder) SetHeader(h http.Header, md metadata.MD) {
	h.Set("Content-Type", sse.MediaType)
	setMetadata(h, runtime.MetadataHeaderPrefix, md)
}

// Heartbeat implements bridge.Encoder.
func (e *Encoder) Heartbeat() string { return sse.Heartbeat }

// Begin implements bridge.Encoder. There is nothing to come back to.
func (e *Encoder) Begin(md metadata.MD) (id string) {
	e.header = md
	return ""
}

// AppendMessage implements bridge.Encoder.
func (e *Encoder) AppendMessage(dst, wire []byte) (out []byte, terminal bool, err error) {
	out = append(dst, "event: message\ndata: "...)
	if e.binding.answer != nil {
		out, err = e.writer.AppendField(out, wire, e.binding.answer.Number())
	} else {
		out, err = e.writer.Append(out, wire)
	}
	if err != nil {
		e.unreadable = err
		return dst, false, err
	}
	if e.writer.Unknown {
		e.renew()
	}
	return append(out, '\n', '\n'), false, nil
}

// renew goes on with descriptors that may know the fields of a newer server, if there are
// some already. If not, it sees that there will be.
func (e *Encoder) renew() {
	e.methods.RenewSoon()
	if t := e.methods.Known(); t != e.binding.Method.table {
		if b := t.current(e.binding); b != nil && b.Method.Streams {
			e.use(b)
		}
	}
}

// AppendEnd implements bridge.Encoder.
func (e *Encoder) AppendEnd(dst []byte, err error, trailer metadata.MD, begun bool) (out []byte, ok bool) {
	e.trailer = trailer
	if err == io.EOF {
		data, _ := json.Marshal(map[string]any{"trailers": trailers(trailer)}) // texts
		return appendBlock(dst, "finished", data), true
	}
	if !begun { // a true status
		return dst, false
	}
	code, s := explain(e.log, e.cause(err), trailer)
	data := errorJSON(e.binding.Method.table.types, code, s)
	if told := trailers(trailer); len(told) > 0 { // beside the error, as beside finished
		more, _ := json.Marshal(told) // texts
		data = append(append(append(data[:len(data)-1], `,"trailers":`...), more...), '}')
	}
	return appendBlock(dst, "error", data), true
}

func appendBlock(dst []byte, event string, data []byte) []byte {
	dst = sse.AppendField(dst, "event", event)
	dst = append(dst, "data: "...)
	if escaped, err := sse.AppendJSON(dst, data); err == nil { // it is JSON
		dst = escaped
	}
	return append(dst, '\n', '\n')
}

// cause returns why a stream has ended: not with gRPC's status, if that is our own doing.
func (e *Encoder) cause(err error) error {
	if e.unreadable != nil {
		e.log.Warn("read a message of the server", "method", e.binding.Method.Path, "cause", e.unreadable)
		e.methods.RenewSoon()
		return errUnreadable
	}
	Notice(e.methods, err)
	return err
}

// Refuse implements bridge.Encoder.
func (e *Encoder) Refuse(w http.ResponseWriter, err error) {
	setMetadata(w.Header(), runtime.MetadataHeaderPrefix, e.header)
	setMetadata(w.Header(), runtime.MetadataTrailerPrefix, e.trailer)
	e.binding.Method.WriteError(w, e.log, e.cause(err), e.trailer)
}

// Notice sees from the end of a call whether the descriptors are old.
func Notice(m *Methods, err error) {
	if status.Code(err) == codes.Unimplemented {
		m.RenewSoon()
	}
}
