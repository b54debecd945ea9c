package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// story prints steps as they happen and remembers how long each took.
type story struct {
	out   io.Writer
	begun time.Time
	steps []step
}

type step struct {
	title string
	took  time.Duration
}

func newStory(out io.Writer) *story { return &story{out: out, begun: time.Now()} }

// step prints the title, does the work and remembers its time.
func (s *story) step(title string, work func() error) error {
	fmt.Fprintf(s.out, "\n%d. %s\n", len(s.steps)+1, title)
	begun := time.Now()
	err := work()
	s.steps = append(s.steps, step{title, time.Since(begun)})
	return err
}

// say prints one line of the story.
func (s *story) say(format string, values ...any) {
	fmt.Fprintf(s.out, "   "+format+"\n", values...)
}

// show prints text as it was read, indented.
func (s *story) show(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		fmt.Fprint(s.out, "   | "+line)
	}
}

// summary prints how long each step took.
func (s *story) summary() {
	fmt.Fprintln(s.out, "\nHow long each step took")
	for n, step := range s.steps {
		fmt.Fprintf(s.out, "   %2d. %-86s %6.1f s\n", n+1, step.title, step.took.Seconds())
	}
	fmt.Fprintf(s.out, "       %-86s %6.1f s\n", "all of it", time.Since(s.begun).Seconds())
}
