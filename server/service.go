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

// stream sends a completion's events to one reader.
func (s *Server) stream(stream grpc.ServerStream, p *seat, after int32) error {
	var event encodedEvent
	return s.follow(stream.Context(), p, after, func() error {
		// At once, not with the first event: the reader may want to come back, or to
		// cancel, before there is one.
		return stream.SendHeader(completionID(p.id))
	}, func(e journal.Entry, more bool) error {
		event.data, event.more = e.Data, more
		return stream.SendMsg(&event)
	})
}

// follow calls begin, unless the completion cannot be read, and then send for each
// event behind the sequence after, until the completion's end, and says whether
// more events are there already. It returns the failure in which a completion ended.
func (s *Server) follow(ctx context.Context, p *seat, after int32, begin func() error, send func(e journal.Entry, more bool) error) error {
	if p.leads {
		if err := begin(); err != nil {
			return err
		}
		begin = nil
		for entries := p.run.lead(nil); len(entries) > 0; entries = p.run.lead(entries) {
			if ended, err := deliver(entries, send); ended || err != nil {
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
	if begin != nil {
		if err := begin(); err != nil {
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
		if ended, err := deliver(entries, send); ended || err != nil {
			return err
		}
	}
}

// deliver calls send for entries and reports whether the last one is the end.
func deliver(entries []journal.Entry, send func(e journal.Entry, more bool) error) (ended bool, err error) {
	for i, e := range entries {
		if e.Kind == journal.Failed {
			st, err := failedStatus(e)
			if err != nil {
				return false, err
			}
			return true, status.FromProto(st).Err()
		}
		if err := send(e, i < len(entries)-1); err != nil {
			return false, err
		}
	}
	return entries[len(entries)-1].Kind == journal.Finished, nil
}

// CreateCompletion implements completion.v1.CompletionService.
func (s *Server) CreateCompletion(ctx context.Context, req *completionv1.CompletionRequest) (*completionv1.Completion, error) {
	p, err := s.begin(ctx, req)
	if err != nil {
		return nil, err
	}
	defer p.leave()
	a := newAssembly(journal.Completion{ID: p.id})
	err = s.follow(ctx, p, 0, func() error { return grpc.SetHeader(ctx, completionID(p.id)) },
		func(e journal.Entry, _ bool) error { return a.add(e) })
	if err != nil {
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
