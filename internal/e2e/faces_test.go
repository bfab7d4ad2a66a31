package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// face is a way to ask for a completion.
type face struct {
	name      string
	mediaType string // of an answer over HTTP; "": it is asked over gRPC
	stream    bool   // the answer comes in events, not whole
	ask       func(ctx context.Context, p *e2etest.Program, request string) (*answer, error)
}

// faces are all there are. What is true on one is held against all, so a new one is
// tested by its row here.
var faces = []face{
	{"SSE", "text/event-stream", true, askSSE},
	{"JSON", "application/json", false, askJSON},
	{"gRPC stream", "", true, askStream},
	{"gRPC", "", false, askUnary},
}

// facesOver returns those over HTTP, or those over gRPC.
func facesOver(http bool) (some []face) {
	for _, f := range faces {
		if (f.mediaType != "") == http {
			some = append(some, f)
		}
	}
	return some
}

// answer is what a caller learns of a completion, in the same words on each face.
type answer struct {
	id     string                          // of the completion, where it was named
	events []*completionv1.CompletionEvent // of a stream
	text   string
	status *status.Status // how it failed; nil: it did not
	code   int            // over HTTP: the status, or the one in an error event
	header http.Header    // over HTTP
	raw    string         // all that the caller was told
}

// askSSE checks each block as it is on the wire: its name, its id, its sequence.
func askSSE(ctx context.Context, p *e2etest.Program, request string) (*answer, error) {
	a, body, err := askHTTP(ctx, p, request, "text/event-stream")
	if err != nil || a.status != nil {
		return a, err
	}
	all, err := e2etest.Messages(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i, m := range all {
		if want := fmt.Sprintf("%s_%d", a.id, i+1); m.ID != want {
			return nil, fmt.Errorf("block %d has the id %q, not %q", i, m.ID, want)
		}
		if m.Event == "error" && i == len(all)-1 {
			return a, a.refused([]byte(m.Data))
		}
		event := &completionv1.CompletionEvent{}
		if err := protojson.Unmarshal([]byte(m.Data), event); err != nil {
			return nil, fmt.Errorf("block %d: %w", i, err)
		}
		if name := eventName(event); m.Event != name {
			return nil, fmt.Errorf("block %d is named %q, not %q", i, m.Event, name)
		}
		if err := a.add(event); err != nil {
			return nil, err
		}
	}
	return a, a.complete()
}

func askJSON(ctx context.Context, p *e2etest.Program, request string) (*answer, error) {
	a, body, err := askHTTP(ctx, p, request, "application/json")
	if err != nil || a.status != nil {
		return a, err
	}
	c := &completionv1.Completion{}
	if err := protojson.Unmarshal(body, c); err != nil {
		return nil, err
	}
	return a, a.whole(c)
}

// askHTTP returns an answer's body, too, unless that is a refusal.
func askHTTP(ctx context.Context, p *e2etest.Program, request, accept string) (*answer, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", p.HTTP+"/v1/completions", strings.NewReader(request))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", accept)
	e2etest.Authorize(ctx, req.Header)
	resp, err := p.HTTPClient().Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	a := &answer{
		id:     strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/"),
		code:   resp.StatusCode,
		header: resp.Header,
		raw:    fmt.Sprint(resp.Header, string(body)),
	}
	if resp.StatusCode == http.StatusOK {
		accept, _, _ = strings.Cut(accept, ",")
		if got := resp.Header.Get("Content-Type"); got != accept {
			return nil, nil, fmt.Errorf("the answer is %s, not %s", got, accept)
		}
		return a, body, nil
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		return nil, nil, fmt.Errorf("the refusal %d is %s", resp.StatusCode, got)
	}
	return a, body, a.refused(body)
}

func askStream(ctx context.Context, p *e2etest.Program, request string) (*answer, error) {
	a := &answer{}
	return a, a.call(p, request, func(c completionv1.CompletionServiceClient, req *completionv1.CompletionRequest) error {
		stream, err := c.StreamCompletion(ctx, req)
		if err != nil {
			return err
		}
		header, _ := stream.Header()
		a.id = strings.Join(header.Get("completion-id"), ",")
		for {
			event, err := stream.Recv()
			if err == io.EOF {
				return a.complete()
			}
			if err != nil {
				return err
			}
			if err := a.add(event); err != nil {
				return err
			}
		}
	})
}

func askUnary(ctx context.Context, p *e2etest.Program, request string) (*answer, error) {
	a := &answer{}
	return a, a.call(p, request, func(c completionv1.CompletionServiceClient, req *completionv1.CompletionRequest) error {
		var header metadata.MD
		completion, err := c.CreateCompletion(ctx, req, grpc.Header(&header))
		a.id = strings.Join(header.Get("completion-id"), ",")
		if err != nil {
			return err
		}
		return a.whole(completion)
	})
}

// call makes a call on a connection of its own. A status is no error but the
// answer.
func (a *answer) call(p *e2etest.Program, request string, do func(completionv1.CompletionServiceClient, *completionv1.CompletionRequest) error) error {
	req := &completionv1.CompletionRequest{}
	if err := protojson.Unmarshal([]byte(request), req); err != nil {
		return err
	}
	conn, err := grpc.NewClient(p.GRPC, p.Credentials(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return err
	}
	defer conn.Close()
	err = do(completionv1.NewCompletionServiceClient(conn), req)
	if st, ok := status.FromError(err); ok && err != nil {
		a.status = st
		a.raw += fmt.Sprint(st.Message(), st.Details())
		return nil
	}
	return err
}

// add takes the next event of a stream.
func (a *answer) add(event *completionv1.CompletionEvent) error {
	if got, want := event.GetSequence(), int32(len(a.events)+1); got != want {
		return fmt.Errorf("an event has the sequence %d, not %d", got, want)
	}
	if n := len(a.events); n > 0 && a.events[n-1].GetFinished() != nil {
		return fmt.Errorf("%v follows the terminal event", event)
	}
	if created := event.GetCreated(); (created != nil) != (len(a.events) == 0) || created != nil && created.GetId() != a.id {
		return fmt.Errorf("%v is out of place in %s", event, a.id)
	}
	a.events = append(a.events, event)
	a.text += event.GetDelta().GetText()
	return nil
}

// complete checks that a stream that ended well had its terminal event.
func (a *answer) complete() error {
	if n := len(a.events); n == 0 || a.events[n-1].GetFinished() == nil {
		return fmt.Errorf("cut after %d events", n)
	}
	return nil
}

func (a *answer) whole(c *completionv1.Completion) error {
	if c.GetId() != a.id || a.id == "" {
		return fmt.Errorf("the completion is called %q and %q", c.GetId(), a.id)
	}
	if c.GetState() != completionv1.Completion_FINISHED && c.GetState() != completionv1.Completion_CANCELLED {
		return fmt.Errorf("the completion is %v", c.GetState())
	}
	a.text = c.GetText()
	return nil
}

// refused takes the body of a refusal, which is also the data of an error event.
func (a *answer) refused(body []byte) error {
	var e struct {
		Error struct {
			Code            int
			Status, Message string
			Details         []json.RawMessage
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return fmt.Errorf("%s: %w", body, err)
	}
	st := &statuspb.Status{Code: codepb.Code_value[e.Error.Status], Message: e.Error.Message}
	for _, detail := range e.Error.Details {
		m := &anypb.Any{}
		if err := protojson.Unmarshal(detail, m); err != nil {
			return fmt.Errorf("%s: %w", detail, err)
		}
		st.Details = append(st.Details, m)
	}
	if a.code != http.StatusOK && a.code != e.Error.Code {
		return fmt.Errorf("the status is %d, the body says %d", a.code, e.Error.Code)
	}
	a.code, a.status = e.Error.Code, status.FromProto(st)
	return nil
}

// eventName is the name of the oneof field that is set.
func eventName(event *completionv1.CompletionEvent) string {
	m := event.ProtoReflect()
	if field := m.WhichOneof(m.Descriptor().Oneofs().ByName("event")); field != nil {
		return string(field.Name())
	}
	return ""
}

// detail returns a status's detail of a type, or its zero value.
func detail[M proto.Message](st *status.Status) M {
	var zero M
	for _, d := range st.Details() {
		if m, ok := d.(M); ok {
			return m
		}
	}
	return zero
}

// reason is the reason in the ErrorInfo that each error has.
func reason(st *status.Status) string {
	info := detail[*errdetails.ErrorInfo](st)
	if info.GetDomain() != "completion.v1" {
		return fmt.Sprintf("(no ErrorInfo: %v: %s)", st.Code(), st.Message())
	}
	return info.GetReason()
}

// retryDelay is what RetryInfo says, or 0.
func retryDelay(st *status.Status) time.Duration {
	return detail[*errdetails.RetryInfo](st).GetRetryDelay().AsDuration()
}

// fields are the names in BadRequest.
func fields(st *status.Status) []string {
	var names []string
	for _, v := range detail[*errdetails.BadRequest](st).GetFieldViolations() {
		names = append(names, v.GetField())
	}
	return names
}
