"""The Gradio app over the public interface; installed as `mmtune.demos`."""
