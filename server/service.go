package server

import (
	"context"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// StreamCompletion implements completion.v1.CompletionService.
func (s *Server) StreamCompletion(req *completionv1.CompletionRequest, stream grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
	id, led, err := s.begin(stream.Context(), req)
	if err != nil {
		return err
	}
	return s.deliver(stream.Context(), id, led, 0, newStreamReceiver[completionv1.CompletionRequest](stream, id))
}

// ResumeCompletion implements completion.v1.CompletionService.
func (s *Server) ResumeCompletion(req *completionv1.ResumeCompletionRequest, stream grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
	if req.GetAfterSequence() < 0 {
		return failure.Invalid("after_sequence", "must not be negative")
	}
	info, err := s.owned(stream.Context(), req.GetId())
	if err != nil {
		return err
	}
	to := newStreamReceiver[completionv1.ResumeCompletionRequest](stream, req.GetId())
	to.header.Set("last-sequence", strconv.Itoa(int(info.Last)))
	return s.deliver(stream.Context(), req.GetId(), nil, req.GetAfterSequence(), to)
}

// CreateCompletion implements completion.v1.CompletionService.
func (s *Server) CreateCompletion(ctx context.Context, req *completionv1.CompletionRequest) (*completionv1.Completion, error) {
	id, led, err := s.begin(ctx, req)
	if err != nil {
		return nil, err
	}
	a := newAssembly(journal.Completion{ID: id})
	if err := s.deliver(ctx, id, led, 0, a); err != nil {
		return nil, err
	}
	c := a.result()
	if c.GetError() != nil {
		return nil, status.FromProto(c.GetError()).Err()
	}
	return c, nil
}

// GetCompletion implements completion.v1.CompletionService.
func (s *Server) GetCompletion(ctx context.Context, req *completionv1.GetCompletionRequest) (*completionv1.Completion, error) {
	info, err := s.owned(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return s.assemble(ctx, info, s.config.Journal.Read)
}

// CancelCompletion implements completion.v1.CompletionService.
func (s *Server) CancelCompletion(ctx context.Context, req *completionv1.CancelCompletionRequest) (*completionv1.Completion, error) {
	info, err := s.identify(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := s.config.Journal.Cancel(ctx, info.ID); err != nil {
		return nil, journalFailure(ctx, err)
	}
	return s.assemble(ctx, info, s.config.Journal.Follow)
}

// identify returns the caller's completion that is to be cancelled.
func (s *Server) identify(ctx context.Context, req *completionv1.CancelCompletionRequest) (journal.Info, error) {
	id, key := req.GetId(), req.GetIdempotencyKey()
	switch {
	case id == "" && key == "":
		return journal.Info{}, failure.Invalid("id", "name the completion by its id or by its idempotency_key")
	case id != "" && key != "":
		return journal.Info{}, failure.Invalid("idempotency_key", "name the completion by its id or by this, not by both")
	case id != "":
		return s.owned(ctx, id)
	}
	info, err := s.config.Journal.Find(ctx, s.config.Principal(ctx), key)
	if err != nil {
		return journal.Info{}, journalFailure(ctx, err)
	}
	return info, nil
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
