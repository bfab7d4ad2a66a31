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
	return s.stream(stream, p, 0)
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
	return s.stream(stream, p, req.GetAfterSequence())
}

// stream sends a completion's events from the journal to one reader.
func (s *Server) stream(stream grpc.ServerStream, p *seat, after int32) error {
	r, err := s.config.Journal.Read(stream.Context(), p.id, after)
	if err != nil {
		return journalFailure(err)
	}
	defer r.Close()
	// At once, not with the first event: the reader may want to come back, or to
	// cancel, before there is one.
	if err := stream.SendHeader(completionID(p.id)); err != nil {
		return err
	}
	var event encodedEvent
	return follow(stream.Context(), p, r, after, func(e journal.Entry, more bool) error {
		event.data, event.more = e.Data, more
		return stream.SendMsg(&event)
	})
}

// follow calls send for each event that a reader brings, until the completion's
// end, and says whether more events are there already. It returns the failure in
// which a completion ended. The reader stands behind the sequence after.
func follow(ctx context.Context, p *seat, r journal.Reader, after int32, send func(e journal.Entry, more bool) error) error {
	for {
		p.lead(ctx, after)
		entries, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return journalFailure(err)
		}
		for i, e := range entries {
			if e.Kind == journal.Failed {
				st, err := failedStatus(e)
				if err != nil {
					return err
				}
				return status.FromProto(st).Err()
			}
			if err := send(e, i < len(entries)-1); err != nil {
				return err
			}
			after = e.Sequence
		}
	}
}

// CreateCompletion implements completion.v1.CompletionService.
func (s *Server) CreateCompletion(ctx context.Context, req *completionv1.CompletionRequest) (*completionv1.Completion, error) {
	p, err := s.begin(ctx, req)
	if err != nil {
		return nil, err
	}
	defer p.leave()
	if err := grpc.SetHeader(ctx, completionID(p.id)); err != nil {
		return nil, err
	}
	r, err := s.config.Journal.Read(ctx, p.id, 0)
	if err != nil {
		return nil, journalFailure(err)
	}
	defer r.Close()
	a := newAssembly(journal.Completion{ID: p.id})
	if err := follow(ctx, p, r, 0, func(e journal.Entry, _ bool) error { return a.add(e) }); err != nil {
		return nil, err
	}
	return a.result(), nil
}

// GetCompletion implements completion.v1.CompletionService.
func (s *Server) GetCompletion(ctx context.Context, req *completionv1.GetCompletionRequest) (*completionv1.Completion, error) {
	return s.assemble(ctx, req.GetId())
}

// CancelCompletion implements completion.v1.CompletionService.
func (s *Server) CancelCompletion(ctx context.Context, req *completionv1.CancelCompletionRequest) (*completionv1.Completion, error) {
	if _, err := s.owned(ctx, req.GetId()); err != nil {
		return nil, err
	}
	if r := s.running(req.GetId()); r != nil {
		r.cancel(errCancelled)
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return s.assemble(ctx, req.GetId())
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
