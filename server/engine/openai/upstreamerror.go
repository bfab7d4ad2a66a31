package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// upstreamError is an error in the upstream's own words: a response whose status is not
// a success, or with status 200 an error in the answer. What it means is in failures.go.
type upstreamError struct {
	requestLine string // empty for an error in the answer
	status      int
	header      http.Header
	body        []byte

	// Set by parse.
	details  errorDetails
	isObject bool   // the details are where OpenAI has them
	delay    string // google.rpc.RetryInfo's
}

// errorDetails is an error object as OpenAI has it. Others have a number for the code,
// or an object for the message.
type errorDetails struct {
	Message jsonText `json:"message"`
	Type    jsonText `json:"type"`
	Code    jsonText `json:"code"`
	Param   jsonText `json:"param"`
}

// jsonText is the text of a JSON string, or any other JSON value as it is; empty for
// null.
type jsonText string

// UnmarshalJSON implements json.Unmarshaler.
func (t *jsonText) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		s = string(b)
	}
	*t = jsonText(s)
	return nil
}

// isError tells whether the value of a member error says that there is one.
func isError(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "false", `""`:
		return false
	}
	return true
}

// parse looks for an error object in the body and tells whether there is one:
// {"error":{…}}, {"error":"…"} (Ollama), {"object":"error",…} (vLLM), or a list of one
// (Gemini). {"message":…} (Cohere) and {"detail":…} (FastAPI) are errors only if the
// status says so, and not 404, for which gateways and FastAPI send them.
func (u *upstreamError) parse() bool {
	body := bytes.TrimSpace(u.body)
	if bytes.HasPrefix(body, []byte("[")) {
		var list []json.RawMessage
		if json.Unmarshal(body, &list) == nil && len(list) > 0 {
			body = list[0]
		}
	}
	var found struct {
		Object jsonText        `json:"object"`
		Error  json.RawMessage `json:"error"`
		Detail jsonText        `json:"detail"`
		errorDetails
	}
	if json.Unmarshal(body, &found) != nil {
		return false
	}
	u.details = errorDetails{}
	switch {
	case isError(found.Error):
		u.isObject = true
		u.parseObject(found.Error, found.errorDetails)
	case strings.EqualFold(string(found.Object), "error"):
		u.isObject = true
		u.details = found.errorDetails
	case u.status/100 == 4 && u.status != http.StatusNotFound && found.Message+found.Detail != "":
		u.details = found.errorDetails
		u.details.Message += found.Detail
	default:
		return false
	}
	return true
}

// parseObject parses the value of a member error, with the members beside it.
func (u *upstreamError) parseObject(raw json.RawMessage, beside errorDetails) {
	var object struct {
		errorDetails
		Details  json.RawMessage `json:"details"`
		Metadata struct {
			Raw jsonText `json:"raw"`
		} `json:"metadata"`
	}
	if json.Unmarshal(raw, &object) != nil && object.errorDetails == (errorDetails{}) {
		u.details = beside // xAI: {"code":"…","error":"…"}
		_ = u.details.Message.UnmarshalJSON(raw)
		return
	}
	u.details, u.delay = object.errorDetails, retryDelay(object.Details)
	if object.Metadata.Raw != "" { // OpenRouter: the message of its provider
		u.details.Message += ": " + object.Metadata.Raw
	}
}

// Error returns the upstream's words, which are not for callers.
func (u *upstreamError) Error() string {
	d := &u.details
	switch {
	case u.isObject:
		return fmt.Sprintf("the upstream answered %d: %s (type %q, code %q)", u.status, d.Message, d.Type, d.Code)
	case u.status/100 == 3:
		return fmt.Sprintf("the upstream answered %d to %s and points to %q", u.status, u.requestLine, u.header.Get("Location"))
	case u.status == http.StatusNotFound, u.status == http.StatusMethodNotAllowed: // the base URL may be wrong
		return fmt.Sprintf("the upstream answered %d to %s: %s", u.status, u.requestLine, bytes.TrimSpace(u.body))
	}
	return fmt.Sprintf("the upstream answered %d: %s", u.status, bytes.TrimSpace(u.body))
}

// searchText returns what the upstream said, in lower case, to look for phrases in. It
// is empty for an HTML page.
func (u *upstreamError) searchText() string {
	d, text := &u.details, ""
	switch {
	case *d != (errorDetails{}):
		text = strings.ToLower(string(d.Code + " " + d.Type + " " + d.Message))
	case u.status/100 == 4 && !bytes.HasPrefix(bytes.TrimSpace(u.body), []byte("<")):
		text = strings.ToLower(string(u.body)) // plain text, or JSON that was cut
	}
	return withoutInput(text)
}

// message returns the upstream's message in lower case, or all that it said.
func (u *upstreamError) message() string {
	if u.details.Message == "" {
		return u.searchText()
	}
	return withoutInput(strings.ToLower(string(u.details.Message)))
}

// withoutInput cuts a message off where pydantic repeats the request (vLLM): the
// caller's words are not the upstream's.
func withoutInput(message string) string {
	message, _, _ = strings.Cut(message, "'input':")
	message, _, _ = strings.Cut(message, `"input":`)
	return message
}

// suspect is what may be a parameter that the upstream does not accept.
type suspect struct {
	path    string
	unknown bool // it is the name that is not accepted, whatever the value is
}

// parameters returns the parameters that the upstream may not accept, the most certain
// first.
func (u *upstreamError) parameters() []suspect {
	code, message := u.details.Code, u.message()
	found := append([]suspect{{string(u.details.Param), code == "unsupported_parameter" || code == "unknown_parameter"}},
		locations(u.details.Message)...)
	for i := range parameterPatterns {
		p := &parameterPatterns[i]
		found = append(found, suspect{p.find(message), p.unknown})
	}
	return found
}

// maxLocations limits how many errors of pydantic are looked at.
const maxLocations = 64

// locations returns the parameters in the errors of pydantic, which Mistral, vLLM and
// others with FastAPI have as a message:
// {"detail":[{"type":"missing","loc":["body","messages",0,"user","name"]}]}.
func locations(message jsonText) []suspect {
	type pydanticError struct {
		Type string     `json:"type"`
		Loc  []jsonText `json:"loc"`
	}
	var found struct {
		Detail []pydanticError `json:"detail"`
	}
	if json.Unmarshal([]byte(message), &found) != nil {
		_ = json.Unmarshal([]byte(message), &found.Detail)
	}
	var parameters []suspect
	for _, e := range found.Detail[:min(len(found.Detail), maxLocations)] {
		var path []byte // not a string, which would be copied at each step
		for i, step := range e.Loc {
			switch _, err := strconv.Atoi(string(step)); {
			case i == 0 && step == "body":
			case err == nil:
				path = append(append(append(path, '['), step...), ']')
			case bytes.HasSuffix(path, []byte("]")) && (step == "user" || step == "assistant" || step == "system" || step == "tool"):
				// the type of message that pydantic tried
			default:
				if len(path) > 0 {
					path = append(path, '.')
				}
				path = append(path, step...)
			}
		}
		parameters = append(parameters, suspect{string(path), e.Type == "extra_forbidden"})
	}
	return parameters
}
