package server

import (
	"context"
	"errors"
	"io"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// StreamCompletion implements completion.v1.CompletionService.
func (s *Server) StreamCompletion(req *completionv1.CompletionRequest, stream grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
	p, err := s.begin(stream.Context(), req)
	if err != nil {
		return err
	}
	defer p.leave()
	return s.follow(stream.Context(), p, 0, newStreamReader[completionv1.CompletionRequest](stream, p.id))
}

// ResumeCompletion implements completion.v1.CompletionService.
func (s *Server) ResumeCompletion(req *completionv1.ResumeCompletionRequest, stream grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
	if req.GetAfterSequence() < 0 {
		return failure.Invalid("after_sequence", "must not be negative")
	}
	if _, err := s.owned(stream.Context(), req.GetId()); err != nil {
		return err
	}
	p := s.attach(req.GetId())
	defer p.leave()
	return s.follow(stream.Context(), p, req.GetAfterSequence(), newStreamReader[completionv1.ResumeCompletionRequest](stream, p.id))
}

// reader is who follows a completion.
type reader interface {
	// begin is called before the first event, unless the completion cannot be read.
	begin(ctx context.Context) error

	// receive is called with all events that are there.
	receive(entries []journal.Entry) error
}

// wholeReader puts a completion together for the answer to a unary call.
type wholeReader struct{ *assembly }

func (r wholeReader) begin(ctx context.Context) error {
	return grpc.SetHeader(ctx, completionID(r.completion.GetId()))
}

func (r wholeReader) receive(entries []journal.Entry) error {
	for _, e := range entries {
		if err := r.add(e); err != nil {
			return err
		}
	}
	return nil
}

// follow gives a reader the events behind the sequence after, until the completion's
// end. It returns the failure in which a completion ended.
func (s *Server) follow(ctx context.Context, p *seat, after int32, to reader) error {
	if p.leads {
		if err := to.begin(ctx); err != nil {
			return err
		}
		for entries := p.run.lead(nil); len(entries) > 0; entries = p.run.lead(entries) {
			if ended, err := deliver(entries, to); ended || err != nil {
				return err
			}
			after = entries[len(entries)-1].Sequence
		}
	}
	r, err := s.config.Journal.Read(ctx, p.id, after)
	if err != nil {
		return journalFailure(err)
	}
	defer r.Close()
	if !p.leads {
		if err := to.begin(ctx); err != nil {
			return err
		}
	}
	for {
		entries, err := r.Next(ctx)
		if errors.Is(err, io.EOF) { // the reader has had the end before
			return nil
		}
		if err != nil {
			return journalFailure(err)
		}
		if ended, err := deliver(entries, to); ended || err != nil {
			return err
		}
	}
}

// deliver gives a reader entries and reports whether the last one is the end.
func deliver(entries []journal.Entry, to reader) (ended bool, err error) {
	last := entries[len(entries)-1]
	if last.Kind != journal.Failed {
		return last.Kind == journal.Finished, to.receive(entries)
	}
	if len(entries) > 1 {
		if err := to.receive(entries[:len(entries)-1]); err != nil {
			return false, err
		}
	}
	st, err := failedStatus(last)
	if err != nil {
		return false, err
	}
	return true, status.FromProto(st).Err()
}

// CreateCompletion implements completion.v1.CompletionService.
func (s *Server) CreateCompletion(ctx context.Context, req *completionv1.CompletionRequest) (*completionv1.Completion, error) {
	p, err := s.begin(ctx, req)
	if err != nil {
		return nil, err
	}
	defer p.leave()
	whole := wholeReader{newAssembly(journal.Completion{ID: p.id})}
	if err := s.follow(ctx, p, 0, whole); err != nil {
		return nil, err
	}
	return whole.result(), nil
}

// GetCompletion implements completion.v1.CompletionService.
func (s *Server) GetCompletion(ctx context.Context, req *completionv1.GetCompletionRequest) (*completionv1.Completion, error) {
	return s.assemble(ctx, req.GetId())
}

// CancelCompletion implements completion.v1.CompletionService.
func (s *Server) CancelCompletion(ctx context.Context, req *completionv1.CancelCompletionRequest) (*completionv1.Completion, error) {
	id, err := s.identify(ctx, req)
	if err != nil {
		return nil, err
	}
	if r := s.running(id); r != nil {
		r.cancel(errCancelled)
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return s.assemble(ctx, id)
}

// identify returns the id of the caller's completion that is to be cancelled.
func (s *Server) identify(ctx context.Context, req *completionv1.CancelCompletionRequest) (string, error) {
	id, key := req.GetId(), req.GetIdempotencyKey()
	switch {
	case id == "" && key == "":
		return "", failure.Invalid("id", "name the completion by its id or by its idempotency_key")
	case id != "" && key != "":
		return "", failure.Invalid("idempotency_key", "name the completion by its id or by this, not by both")
	case id != "":
		_, err := s.owned(ctx, id)
		return id, err
	}
	info, err := s.config.Journal.Find(ctx, s.config.Principal(ctx), key)
	if err != nil {
		return "", journalFailure(err)
	}
	return info.ID, nil
}

// ListModels implements completion.v1.CompletionService.
func (s *Server) ListModels(ctx context.Context, _ *completionv1.ListModelsRequest) (*completionv1.ListModelsResponse, error) {
	resp := &completionv1.ListModelsResponse{}
	if s.config.OpenAI != nil {
		ids, err := s.config.OpenAI.Models(ctx)
		if err != nil {
			s.config.Log.WarnContext(ctx, "list models", "cause", err)
			return nil, err
		}
		for _, id := range ids {
			resp.Models = append(resp.Models, &completionv1.Model{Id: id, Engine: "openai"})
		}
	}
	resp.Models = append(resp.Models, &completionv1.Model{Id: echoModel, Engine: "echo"})
	return resp, nil
}

// completionID is the metadata that names a completion to its reader.
func completionID(id string) metadata.MD { return metadata.Pairs("completion-id", id) }

// failedStatus decodes the end of a completion that failed.
func failedStatus(e journal.Entry) (*statuspb.Status, error) {
	st := &statuspb.Status{}
	return st, proto.Unmarshal(e.Data, st)
}
