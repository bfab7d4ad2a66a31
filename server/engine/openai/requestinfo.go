package openai

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// requestInfo is what an error says of the request that it is for. It is zero for the
// list of models.
type requestInfo struct {
	model     string
	input     string // the field that holds it: messages or prompt
	extra     *structpb.Struct
	extraJSON string
}

func infoOf(req *completionv1.CompletionRequest) requestInfo {
	info := requestInfo{model: req.GetModel(), input: "messages", extra: req.GetExtra(), extraJSON: req.GetExtraJson()}
	if req.Prompt != nil {
		info.input = "prompt"
	}
	return info
}

// fieldOf returns the caller's path of a parameter, for the upstream's path of it, such
// as messages[0].content. It returns "" if the request has no such parameter.
func (info requestInfo) fieldOf(path string) string {
	if len(path) > 200 || strings.ContainsFunc(path, func(r rune) bool { return r >= utf8.RuneSelf || !isPathByte(byte(r)) }) {
		return ""
	}
	root, rest := path, ""
	if end := strings.IndexAny(path, ".["); end >= 0 {
		root, rest = path[:end], normalizePath(path[end:])
	}
	if root == "" {
		return "" // and extra, which may be large, is not decoded
	}
	fields := (*completionv1.CompletionRequest)(nil).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if strings.EqualFold(root, string(f.Name())) || strings.EqualFold(root, f.JSONName()) {
			return string(f.Name()) + rest
		}
	}
	var fromJSON map[string]json.RawMessage
	_ = json.Unmarshal([]byte(info.extraJSON), &fromJSON)
	for _, name := range slices.AppendSeq(slices.Collect(maps.Keys(fromJSON)), maps.Keys(info.extra.GetFields())) {
		if strings.EqualFold(root, name) {
			return "extra." + name + rest
		}
	}
	return ""
}

// normalizePath returns the rest of a path with indexes as protobuf has them: OpenAI has
// .[3].role, Anthropic and Groq have .3.role. A member that the upstream calls
// reasoning_content is our field reasoning.
func normalizePath(rest string) string {
	var out strings.Builder
	for step := range strings.SplitSeq(strings.ReplaceAll(rest, "[", ".["), ".") {
		switch index := strings.Trim(step, "[]"); {
		case index == "":
		case strings.Trim(index, "0123456789") == "":
			out.WriteString("[" + index + "]")
		case step == "reasoning_content":
			out.WriteString(".reasoning")
		default:
			out.WriteString("." + step)
		}
	}
	return out.String()
}
