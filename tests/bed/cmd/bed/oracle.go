package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// maxLine is the longest line an oracle reads: some Secrets of 1 MiB each,
// escaped twice.
const maxLine = 64 << 20

// oracle reads one JSON value per line of stdin and answers each with one JSON
// line: answer's value, or {"error": …}. It ends when stdin closes.
func oracle[Question any](_ context.Context, args []string, answer func(Question) (any, error)) error {
	if len(args) > 0 {
		return exitError{2, fmt.Sprintf("takes no arguments, got %q: write JSON lines to stdin", args[0])}
	}
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(make([]byte, 64<<10), maxLine)
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for scanner.Scan() {
		if err := encoder.Encode(answerLine(scanner.Bytes(), answer)); err != nil {
			return err
		}
		// Whoever asks waits for the answer before the next question.
		if err := out.Flush(); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil && err != io.EOF {
		return fmt.Errorf("read stdin: %w", err)
	}
	return nil
}

func answerLine[Question any](line []byte, answer func(Question) (any, error)) any {
	var question Question
	err := json.Unmarshal(line, &question)
	if err != nil {
		return map[string]string{"error": "not the JSON that this oracle reads: " + err.Error()}
	}
	value, err := answer(question)
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return value
}
