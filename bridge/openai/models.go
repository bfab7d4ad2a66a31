package openai

import (
	"log/slog"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// WriteModels answers with the list of models. both has it in our own form, too, in the
// same object.
func WriteModels(w http.ResponseWriter, log *slog.Logger, list *completionv1.ListModelsResponse, both bool) {
	m := members{out: []byte{'{'}}
	if both {
		native, err := protojson.Marshal(list)
		if err == nil && len(list.GetModels()) > 0 {
			m.some = true
			if m.out, err = sse.AppendJSON(nil, native); err == nil {
				m.out = m.out[:len(m.out)-1] // its closing brace
			}
		}
		if err != nil {
			WriteError(w, log, err, true)
			return
		}
	}
	m.raw("object", `"list"`)
	m.name("data")
	m.list(len(list.GetModels()), func(i int) { m.model(list.GetModels()[i]) })
	writeJSON(w, http.StatusOK, append(m.out, '}'))
}

// WriteModel answers with one model.
func WriteModel(w http.ResponseWriter, model *completionv1.Model) {
	m := members{out: []byte{'{'}}
	m.model(model)
	writeJSON(w, http.StatusOK, append(m.out, '}'))
}

// model appends the members of a model. Nobody knows when it was made.
func (m *members) model(model *completionv1.Model) {
	m.string("id", model.GetId())
	m.raw("object", `"model"`)
	m.raw("created", "0")
	m.string("owned_by", model.GetEngine())
}
