// Package openai tests OpenAI's API with clients of other people's.
package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

func TestMain(m *testing.M) {
	e2etest.Prepare(nil)
	os.Exit(m.Run())
}

// openAIClients are clients of OpenAI's API, by their names in the table of
// docs/openai.md: the programs that each is tested with, and functions.
var openAIClients = []struct {
	name    string
	scripts []string                                           // with arguments behind the base URL
	runs    []func(t *testing.T, url string) map[string]string // each returns what is wrong, by feature
}{
	{name: "openai-node 6", scripts: []string{"openai-node.js openai", "responses.js openai"}},
	{name: "openai-node 7", scripts: []string{"openai-node.js openai-7", "responses.js openai-7"}},
	{name: "openai-go 3", runs: []func(*testing.T, string) map[string]string{runOpenAIGo, runOpenAIGoResponses}},
	{name: "openai-python 3, replayed", runs: []func(*testing.T, string) map[string]string{runOpenAIPython}},
	{name: "AI SDK, openai-compatible", scripts: []string{"ai-sdk-chat.js compatible"}},
	{name: "AI SDK, openai", scripts: []string{"ai-sdk-chat.js openai", "ai-sdk-responses.js"}},
	{name: "LangChain", scripts: []string{"langchain.js", "langchain-responses.js"}},
}

// programs is the folder of those that run in Node.
const programs = "internal/e2e/testdata/openai"

// clientFeatures are the rows of the table.
var clientFeatures = []string{"chat, whole", "chat, streamed", "stream helper", "usage", "tool loop", "structured output", "reasoning", "refusal", "logprobs",
	"images in", "legacy completions", "models", "errors", "abort",
	"responses, whole", "responses, streamed", "responses, stream helper", "responses, resumed", "responses, background", "responses, tool loop",
	"responses, structured output", "responses, reasoning", "responses, refusal", "responses, images in", "responses, errors", "responses, abort"}

var updateTables = flag.Bool("tables", false, "write the tables of docs/openai.md")

// TestOpenAIClients has unmodified clients do what they can, by base URL alone, under
// both of them, and makes the table of it.
func TestOpenAIClients(t *testing.T) {
	t.Parallel() // it takes long
	node, _ := e2etest.NodeWith(t, programs)
	u := e2etest.NewUpstream(t, playScene)
	p := e2etest.Start(t, "two processes", u.Env())
	done := map[string]map[string]bool{}
	for _, c := range openAIClients {
		done[c.name] = map[string]bool{}
		for _, base := range []string{"/openai/v1", "/v1"} {
			t.Run(c.name+base, func(t *testing.T) {
				runs := c.runs
				for _, script := range c.scripts {
					name, more, _ := strings.Cut(script, " ")
					runs = append(runs, func(t *testing.T, url string) map[string]string {
						return runFeatures(t, node, append([]string{name, url}, strings.Fields(more)...)...)
					})
				}
				for _, run := range runs {
					for feature, mistake := range run(t, p.HTTP+base) {
						if !slices.Contains(clientFeatures, feature) {
							t.Errorf("the table has no row for %q", feature)
						}
						if mistake != "" {
							t.Errorf("%s: %s", feature, mistake)
						}
						done[c.name][feature] = true
					}
				}
			})
		}
	}
	if t.Failed() {
		return
	}
	table := "| |"
	for _, c := range openAIClients {
		table += " " + c.name + " |"
	}
	table += "\n|---|" + strings.Repeat("---|", len(openAIClients)) + "\n"
	for _, feature := range clientFeatures {
		table += "| " + feature + " |"
		for _, c := range openAIClients {
			if done[c.name][feature] {
				table += " ✓ |"
			} else {
				table += " |"
			}
		}
		table += "\n"
	}
	checkTable(t, "clients", table)
}

// checkTable checks a table of docs/openai.md, or writes it.
func checkTable(t *testing.T, name, want string) {
	t.Helper()
	file := e2etest.Root() + "/docs/openai.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := fmt.Sprintf("<!-- table %s -->\n", name), "<!-- end -->"
	_, rest, found := strings.Cut(string(doc), begin)
	have, _, closed := strings.Cut(rest, end)
	switch {
	case !found || !closed:
		t.Errorf("%s has no table %s", file, name)
	case have == want:
	case *updateTables:
		changed := strings.Replace(string(doc), begin+have+end, begin+want+end, 1)
		if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the table %s of %s is not what it must be: go test ./internal/e2e/openai -run '^%s$' -args -tables writes it; got\n%s, want\n%s", name, file, t.Name(), have, want)
	}
}

// runFeatures runs a program of testdata/openai.
func runFeatures(t *testing.T, node string, args ...string) map[string]string {
	t.Helper()
	var mistakes map[string]*string
	runOpenAINode(t, node, &mistakes, args...)
	result := map[string]string{}
	for feature, mistake := range mistakes {
		result[feature] = ""
		if mistake != nil {
			result[feature] = *mistake
		}
	}
	if len(result) < 5 {
		t.Errorf("%d features", len(result))
	}
	return result
}

// runOpenAINode runs a program of testdata/openai, whose output is JSON.
func runOpenAINode(t *testing.T, node string, into any, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.Dir = filepath.Join(e2etest.Root(), programs)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		t.Fatalf("node %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
}
