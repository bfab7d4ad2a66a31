package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// errHelp says that what was asked for was printed, and there is nothing to run.
var errHelp = errors.New("help was asked for")

// command is what the program is told to do, with its flags.
type command interface {
	// run runs until ctx is done.
	run(ctx context.Context, p *program) error
}

// newCommand returns the command of a name, or nil if there is none.
func newCommand(name string) command {
	switch name {
	case "":
		return &bothCommand{}
	case "server":
		return &serverCommand{}
	case "bridge":
		return &bridgeCommand{}
	case "hash-key":
		return &hashKeyCommand{}
	}
	return nil
}

// commandNames are those of the commands that have one.
func commandNames() []string { return []string{"server", "bridge", "hash-key"} }

// parse reads the command line and the environment. It returns one of the three
// commands, or errHelp.
func parse(args []string, getenv func(string) string, stdout, stderr io.Writer) (command, error) {
	name, args, err := splitCommand(args)
	if err != nil {
		return nil, err
	}
	c, exited := newCommand(name), false
	parser, err := newParser(name, c, stdout, stderr, kong.Exit(func(int) { exited = true }), kong.Resolvers(environment(getenv)))
	if err != nil {
		return nil, err
	}
	if err := checkDashes(args, parser); err != nil {
		return nil, err
	}
	_, err = parser.Parse(args)
	if exited {
		return nil, errHelp
	}
	if err != nil {
		return nil, explain(err, name)
	}
	return c, nil
}

// newParser returns the parser of a command's flags.
func newParser(name string, c command, stdout, stderr io.Writer, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(c, append(options,
		kong.Name(fullName(name)),
		kong.Description(description),
		kong.Vars{"version": version(), "max_connections": strconv.Itoa(defaultConnections(maxFiles()))},
		kong.Writers(stdout, stderr),
		kong.ValueFormatter(withEnvironment),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 110}),
	)...)
}

// fullName is how a command is called.
func fullName(command string) string { return strings.TrimSpace("sluice " + command) }

// splitCommand takes the command from the command line, and makes flags of the words help and
// version.
func splitCommand(args []string) (command string, rest []string, err error) {
	asked := ""
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && command != "hash-key" { // which has an argument
		switch word := args[0]; {
		case word == "help" || word == "version":
			asked = "--" + word
		case command == "" && newCommand(word) != nil && word != "":
			command = word
		default:
			return "", nil, unknownCommand(word)
		}
		args = args[1:]
	}
	if asked != "" {
		args = []string{asked}
	}
	return command, args, nil
}

func unknownCommand(word string) error {
	names := append(commandNames(), "help", "version")
	err := fmt.Errorf("there is no command %q: there are %s, and none for both faces in one process", word, strings.Join(names, ", "))
	if near := nearest(word, names); near != "" {
		err = fmt.Errorf("there is no command %q: did you mean %s?", word, near)
	}
	return err
}

// checkDashes refuses -http, which to kong is -h and more.
func checkDashes(args []string, parser *kong.Kong) error {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if strings.HasPrefix(arg, "--") || len(name) < 2 || !strings.HasPrefix(arg, "-") {
			continue
		}
		for _, flag := range parser.Model.Flags {
			if flag.Name == name {
				return fmt.Errorf("write --%s, with two dashes", name)
			}
		}
	}
	return nil
}

// explain returns an error of kong's, in words that say what to do where it is about
// another command.
func explain(err error, command string) error {
	if word, ok := strings.CutPrefix(err.Error(), "unexpected argument "); ok && newCommand(word) != nil {
		return fmt.Errorf("the command comes first: sluice %s …", word)
	}
	flag, ok := strings.CutPrefix(err.Error(), "unknown flag --")
	if !ok {
		return err
	}
	flag, _, _ = strings.Cut(flag, ",")
	for _, other := range append(commandNames(), "") {
		parser, parserErr := newParser(other, newCommand(other), io.Discard, io.Discard)
		if parserErr != nil {
			return parserErr
		}
		if slices.ContainsFunc(parser.Model.Flags, func(f *kong.Flag) bool { return f.Name == flag }) {
			return fmt.Errorf("--%s is a flag of %s, not of %s", flag, fullName(other), fullName(command))
		}
	}
	return err
}

// serviceVariable is what Kubernetes sets in every pod for a service called sluice, or
// sluice-something.
var serviceVariable = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// unknownVariables says which variables of an environment, as os.Environ has it, are
// none of ours though they look like it, and what may be meant.
func unknownVariables(environ []string) (warnings []string, err error) {
	known := []string{"OPENAI_API_KEY"}
	for _, name := range append(commandNames(), "") {
		parser, err := newParser(name, newCommand(name), io.Discard, io.Discard)
		if err != nil {
			return nil, err
		}
		for _, flag := range parser.Model.Flags {
			if flag.Name != "help" && flag.Name != "version" {
				known = append(known, variables(flag.Value)...)
			}
		}
	}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "SLUICE_") || slices.Contains(known, name) || serviceVariable.MatchString(name) {
			continue
		}
		warning := fmt.Sprintf("the variable %s stands for no flag", name)
		if near := nearest(name, known); near != "" {
			warning += ": did you mean " + near + "?"
		}
		warnings = append(warnings, warning)
	}
	slices.Sort(warnings)
	return warnings, nil
}

// nearest returns the candidate that a name is most likely to stand for, or "": one
// with at most two letters different, or a beginning or an end of it.
func nearest(name string, candidates []string) (nearest string) {
	least := 3
	for _, c := range candidates {
		d := distance(strings.ToLower(name), strings.ToLower(c))
		if strings.HasSuffix(name, "_"+c) {
			d = 0
		} else if d > 2 && len(name) > 2 && (strings.HasPrefix(c, name) || strings.HasPrefix(name, c+"_")) {
			d = 2
		}
		if d < least {
			nearest, least = c, d
		}
	}
	return nearest
}

// distance is how many letters have to be changed, added or left out to make b of a
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
