// Command dockerfile reads a Dockerfile as BuildKit does, and prints as JSON
// what BuildKit's own parser objects to and how the image would be run.
//
//	dockerfile FILE
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "dockerfile: %v\n", err)
		os.Exit(1)
	}
}

// found is what is printed; all but the warnings is of the last stage.
type found struct {
	Warnings   []string          `json:"warnings"`
	From       string            `json:"from"`
	User       string            `json:"user"`
	Entrypoint []string          `json:"entrypoint"`
	Cmd        []string          `json:"cmd"`
	Labels     map[string]string `json:"labels"`
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("write it as: dockerfile FILE")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	answer := found{Warnings: []string{}, Labels: map[string]string{}}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	for _, warning := range parsed.Warnings {
		answer.Warnings = append(answer.Warnings, warning.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, url, message string, location []parser.Range) {
		line := 0
		if len(location) > 0 {
			line = location[0].Start.Line
		}
		answer.Warnings = append(answer.Warnings, fmt.Sprintf("line %d: %s: %s (%s)", line, rule, message, url))
	}})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	last := stages[len(stages)-1]
	answer.From = last.BaseName
	for _, command := range last.Commands {
		switch command := command.(type) {
		case *instructions.UserCommand:
			answer.User = command.User
		case *instructions.EntrypointCommand:
			answer.Entrypoint = command.CmdLine
		case *instructions.CmdCommand:
			answer.Cmd = command.CmdLine
		case *instructions.LabelCommand:
			for _, label := range command.Labels {
				answer.Labels[label.Key] = label.Value
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}
