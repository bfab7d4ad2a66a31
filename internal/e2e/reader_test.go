package e2e

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// reader is somebody who reads a completion, or comes back to it.
type reader struct {
	p        *e2etest.Program
	request  string // with an idempotency key
	id       string // the completion's; empty: not known yet
	last     string // the id of the last event that was received; empty: none was
	answered func() // called when the answer begins; nil: nobody waits for it
}

// ways are the ways to come back. All but the GETs also serve to begin. With an
// error, a passage holds what came before it.
var ways = []struct {
	name string
	read func(reader, context.Context) (*passage, error)
}{
	{"POST", reader.post},
	{"gRPC", reader.grpc},
	{"GET", reader.get},
	{"GET with last_event_id", reader.getQuery},
}

// passage is what a reader got in one go, in the same words on both faces.
type passage struct {
	id     string         // the completion's, where it was named
	http   int            // the HTTP status; 0 on gRPC
	events []sse.Message  // all but an error
	status *status.Status // of an error, however it was told; nil: there was none
}

func (r reader) post(ctx context.Context) (*passage, error) {
	return r.overHTTP(ctx, "POST", "/v1/completions", r.request, r.last)
}

func (r reader) get(ctx context.Context) (*passage, error) {
	return r.overHTTP(ctx, "GET", "/v1/completions/"+r.id+"/events", "", r.last)
}

func (r reader) getQuery(ctx context.Context) (*passage, error) {
	return r.overHTTP(ctx, "GET", "/v1/completions/"+r.id+"/events?last_event_id="+url.QueryEscape(r.last), "", "")
}

func (r reader) overHTTP(ctx context.Context, method, path, body, last string) (*passage, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.p.HTTP+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	e2etest.Authorize(ctx, req.Header)
	got := &passage{}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return got, err
	}
	defer resp.Body.Close()
	if r.answered != nil {
		r.answered()
	}
	got.id, got.http = strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/"), resp.StatusCode
	switch resp.StatusCode {
	case http.StatusOK:
		return got, got.blocks(resp.Body)
	case http.StatusNoContent:
		return got, nil
	}
	refusal, err := io.ReadAll(resp.Body)
	if err != nil {
		return got, err
	}
	return got, got.refused(refusal)
}

// blocks reads a stream to its end.
func (got *passage) blocks(stream io.Reader) error {
	r := sse.NewReader(stream, 1<<20)
	for {
		m, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if m.Event == "error" {
			err = got.refused([]byte(m.Data))
		} else {
			got.events = append(got.events, m)
		}
		if err != nil {
			return err
		}
	}
}

func (got *passage) refused(body []byte) error {
	a := &answer{code: got.http}
	err := a.refused(body)
	got.status = a.status
	return err
}

// grpc begins or comes back over a connection of its own.
func (r reader) grpc(ctx context.Context) (*passage, error) {
	got := &passage{}
	conn, err := grpc.NewClient(r.p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return got, err
	}
	defer conn.Close()
	stream, err := r.call(ctx, completionv1.NewCompletionServiceClient(conn))
	if err != nil {
		return got, err
	}
	header, _ := stream.Header()
	got.id = strings.Join(header.Get("completion-id"), ",")
	if r.answered != nil {
		r.answered()
	}
	for {
		event, err := stream.Recv()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			if st := status.Convert(err); len(st.Details()) > 0 { // not one of the connection's
				got.status = st
				return got, nil
			}
			return got, err
		}
		m, err := block(got.id, event)
		if err != nil {
			return got, err
		}
		got.events = append(got.events, m)
	}
}

func (r reader) call(ctx context.Context, client completionv1.CompletionServiceClient) (grpc.ServerStreamingClient[completionv1.CompletionEvent], error) {
	if r.id == "" {
		req := &completionv1.CompletionRequest{}
		if err := protojson.Unmarshal([]byte(r.request), req); err != nil {
			return nil, err
		}
		return client.StreamCompletion(ctx, req)
	}
	var after int32
	if r.last != "" {
		var err error
		if _, after, err = native.ParseID(r.last); err != nil {
			return nil, err
		}
	}
	return client.ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: r.id, AfterSequence: after})
}

// block is an event as it is on the other face.
func block(id string, event *completionv1.CompletionEvent) (sse.Message, error) {
	wire, err := proto.Marshal(event)
	if err != nil {
		return sse.Message{}, err
	}
	b, _, err := native.AppendEvent(nil, id, wire, 0)
	if err != nil {
		return sse.Message{}, err
	}
	return sse.NewReader(bytes.NewReader(b), 1<<20).Next()
}
