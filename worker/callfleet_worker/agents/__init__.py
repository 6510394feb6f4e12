"""The agents of one call: a LangGraph team over a pure state machine of the script's typed questions."""
