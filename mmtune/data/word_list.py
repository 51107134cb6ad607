"""Common English words: written on generated pictures, and known to the embedded model's vocabulary."""

_TEXT = """
able about act add age ago air all also and animal any apple area arm army art ask away baby back bag ball band bank
bar base bath beach bean bear beat bed bee bell best big bike bird black blue board boat body bone book born both
bowl box boy bread break bridge bright bring brown build bus buy cake call calm came camp can car card care case cat
chair city class clean clear clock close cloud coat code coffee cold come cook cool corn cow crowd cup cut dance
dark day deep desk dish dog door down draw dream dress drink drive drop dry duck each ear early earth east easy eat
egg empty end even exit eye face fact fair fall family far farm fast feel field fig film find fire first fish five
flag floor flower fly food foot forest fork form four fox free fresh friend frog front fruit full game garden gate
gift girl glass goat gold good grass great green group grow hair half hall hand happy hat head heart heavy help high
hill hold home hope horse hot hotel house ice idea into island jam jar job juice jump just keep key kid kind king
kite kiwi knee know lady lake lamp land large last leaf left lemon letter light line lion list little live long look
love low lunch made magic mail main make man many map mark market meat melon menu milk mind mint mix model money
moon more mouse mouth move much music nail name near neck nest new news nice night north nose note nut oak ocean
off oil old one onion open orange oven over owl pack page paint pan paper park part party path peach pear pen people
pepper phone photo piano pie pig pink pizza place plane plant plate play plum point pond pool post pot power price
queen quick quiet quiz rain read red rice ride right ring river road robot rock roll roof room root rope rose round
run safe sail salad sale salt sand save school sea seat seed sell shade sheep ship shirt shoe shop short show side
sign silk silver sing sink sit six size skin sky sleep slow small smile snow soap sock soft song soup south space
spoon sport spring square stand star start station stay step still stone stop store storm story street strong sugar
summer sun sweet swim table tail take tall taste taxi tea team ten tent test text thick thin three ticket tiger time
toast today top town toy track train tree truck true tulip turn two under urban use van very view visit voice vote
wait walk wall want warm wash water wave way wax week well west wheel white wide wind window wine wing winter wish
wolf wood wool word work world yard yarn year yellow yes young zebra zero zone zoo
"""
WORDS: tuple[str, ...] = tuple(_TEXT.split())
